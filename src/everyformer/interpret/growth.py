"""How the work of a mixer grows with the length of what it reads, and from where on it is less than attention's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, mix
from everyformer.costs import flops
from everyformer.errors import BadInput
from everyformer.mixers import Attention
from everyformer.registry import method
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@dataclass(frozen=True)
class Growth:
    """What one mixer costs at several lengths."""

    flops: Mapping[int, int]
    """Of one sequence, by its length."""
    pays_from: int | None
    """The least of the lengths from which on it takes fewer than what it is held against; None: it never does."""

    @property
    def exponent(self) -> float:
        """The power of the length that the work grows with from the last length but one to the last."""
        (n, first), (m, last) = list(self.flops.items())[-2:]
        return math.log(last / first) / math.log(m / n)


class _Alone(nn.Module):
    """A mixer on values alone."""

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, inputs: Float[Tensor, "B N D"]) -> Tensor:
        return mix(self.mixer, Tokens(inputs), Context())


def work(mixer: Spec[Mixer], width: int, length: int) -> int:
    """Floating-point operations of a mixer on one sequence; a multiply-add counts two."""
    with torch.device("meta"):
        alone = _Alone(mixer.build(width)).eval()
    return flops(alone, {"inputs": torch.empty(1, length, width)})[""]


@method(
    "practical-survey-faster-lighter",
    title="A Practical Survey on Faster and Lighter Transformers",
    authors="Fournier et al.",
    year=2021,
    arxiv="2103.14636",
    idea="Which lighter attention pays depends on the length: compare how their work grows, and from where on it is less.",
)
def growth(
    mixers: Mapping[str, Spec[Mixer]],
    *,
    width: int = 64,
    lengths: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096),
    against: Spec[Mixer] = spec(Attention, heads=4),  # noqa: B008
) -> dict[str, Growth]:
    """The work of each mixer at these lengths, counted without doing it, and from which of them on it is below `against`'s."""
    if len(lengths) < 2 or list(lengths) != sorted({*lengths}) or lengths[0] < 1:
        raise BadInput(f"give two lengths or more, each longer than the one before; given {lengths}")
    bar, found = {length: work(against, width, length) for length in lengths}, {}
    for name, mixer in mixers.items():
        counted = {length: work(mixer, width, length) for length in lengths}
        dearer = [i for i, length in enumerate(lengths) if counted[length] >= bar[length]]
        first = dearer[-1] + 1 if dearer else 0
        found[name] = Growth(counted, lengths[first] if first < len(lengths) else None)
    return found
