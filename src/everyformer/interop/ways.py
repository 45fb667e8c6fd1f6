"""Models of one class of another library as a system of ours, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.forms import Form
from everyformer.interop.weights import Pair, fill, pour, tensors


@dataclass(frozen=True)
class Same(Form):
    """Theirs as it is, a single number among it."""

    def read(self, theirs: Sequence[Tensor]) -> Tensor:
        """Our tensor."""
        return theirs[0]

    def write(self, ours: Tensor, sizes: Sequence[int]) -> list[Tensor | None]:
        """Their tensor."""
        return [ours]


@dataclass(frozen=True)
class Way:
    """What one of their models is: its design, and which of our tensors is which of theirs."""

    design: Callable[[Any], Design]
    pairs: Callable[[Any], list[Pair]]

    def read(self, theirs: Any) -> Any:
        """Our model with the weights of theirs; a tensor unused or unfilled is an error."""
        made = self.design(theirs).build()
        fill(made, self.pairs(theirs), tensors(theirs))
        return made.train(theirs.training)

    def write(self, ours: Any, theirs: Any) -> Any:
        """Their model, of the same sizes, with our weights."""
        return pour(ours, theirs, self.design(theirs), self.pairs(theirs))


def batch_norm(ours: str, theirs: str) -> list[Pair]:
    """A batch norm, its running figures among it."""
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return [Pair(f"{ours}.{name}", (f"{theirs}.{name}",), Same()) for name in names]


def each_stage(config: Any, **known: list[Any]) -> None:
    """Refuse a configuration whose stages differ from what the system can be."""
    for name, value in known.items():
        given = list(getattr(config, name))
        if given != value:
            raise DoesNotFit(f"{type(config).__name__}.{name} is {given!r}, and the system here has only {value!r}")
