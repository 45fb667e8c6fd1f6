"""What queries know of keys beside their products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from everyformer.mixers.lowering import Lowered


@dataclass(frozen=True, slots=True)
class Sight:
    """Which keys the queries may see, what is added to the scores of each, how many keys each stands for, and where."""

    lowered: Lowered = Lowered()
    bias: Float[Tensor, "#B #H #N M"] | None = None
    mass: Float[Tensor, "B M"] | None = None
    places: tuple[Shaped[Tensor, "#B N k"], Shaped[Tensor, "#B M k"]] | None = None
    """Where queries and keys stand, where a step asks for it."""

    def widened(self, slots: int, query: Float[Tensor, "B H N K"]) -> Sight:
        """With `slots` more keys before the others, which all see."""
        bias = None if self.bias is None else F.pad(self.bias, (slots, 0))
        mass = None if self.mass is None else F.pad(self.mass, (slots, 0), value=1.0)
        return Sight(self.lowered.widened(slots, query.shape[2], query.device), bias, mass, self.places)

    def along(self, change: Callable[[Tensor], Tensor], query: Float[Tensor, "B H N K"]) -> Sight:
        """With `change` done to all that is said of the keys, along the last axis."""
        allowed = self.lowered.explicit(query.shape[2], query.device)
        allowed, bias, mass = (None if each is None else change(each) for each in (allowed, self.bias, self.mass))
        places = None if self.places is None else (self.places[0], change(self.places[1].mT).mT)
        return Sight(Lowered(allowed=allowed), bias, mass, places)
