"""Losses of parts: what a part wants of itself (balanced experts, a budget kept) beside what the answer is trained for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn


class Auxiliary(nn.Module):
    """A named point where a part says a loss of its own, a mean over whatever it counts; `weight` is its share.

    Every objective listens while it calls a model, and adds what it hears. Unheard, nothing is kept.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.heard: list[Tensor] | None = None

    def forward(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The loss itself, unweighted."""
        if self.heard is not None:
            self.heard.append(self.weight * loss)
        return loss

    def extra_repr(self) -> str:
        """The weight."""
        return f"weight={self.weight}"


@contextmanager
def listening(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the parts of a model say while inside, each loss times its weight."""
    heard: list[Tensor] = []
    points = [module for module in model.modules() if isinstance(module, Auxiliary)]
    for point in points:
        point.heard = heard
    try:
        yield heard
    finally:
        for point in points:
            point.heard = None
