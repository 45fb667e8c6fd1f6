"""Cache policies by place: which of the tokens seen stay in the cache, whatever attention made of them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from everyformer.cache import Cache, MemoryPolicy, Policy
from everyformer.contracts import Position
from everyformer.errors import BadInput, DoesNotFit
from everyformer.models import Model
from everyformer.registry import method, part
from everyformer.tokens import order


def latest(cache: Cache, count: Tensor | int) -> Bool[Tensor, "#B M"]:
    """True for the last `count` (B, 1) real tokens of each sequence."""
    if cache.mask is None and isinstance(count, int):
        return (torch.arange(cache.count) >= cache.count - count)[None]
    mask = torch.ones(1, cache.count, dtype=torch.bool) if cache.mask is None else cache.mask
    return mask & (order(mask) >= mask.sum(1, keepdim=True) - count)


@part("generation")
class Sinks(Policy):
    """The first `sinks` tokens of each sequence and its last `window` (Xiao et al., 2023, section 3.2).

    Positions are those within the cache: the sinks move along behind the window.
    """

    closes = True

    def __init__(self, *, sinks: int = 4, window: int = 1020) -> None:
        super().__init__()
        if sinks < 0 or window < 1:
            raise ValueError(f"sinks is at least 0 and window at least 1; given {sinks} and {window}")
        self.sinks, self.window = sinks, window

    def stays(self, cache: Cache, attended: Any = None) -> Bool[Tensor, "#B M"] | None:
        """Of sequences with padding each has its own."""
        if cache.count <= self.sinks + self.window:
            return None
        recent = latest(cache, self.window)
        place = torch.arange(cache.count)[None] if cache.mask is None else order(cache.mask)
        return recent | (place < self.sinks)


@part("generation")
class AttendedSource(MemoryPolicy):
    """Of a source what received most attention in the first `after` passes, a share `keep` of its tokens or a number of them.

    Each key head of each cross-attention keeps its own, as heavy hitters of a decoder are kept (Zhang et al., H2O, 2023).
    """

    def __init__(self, *, keep: float = 0.5, after: int = 4) -> None:
        super().__init__()
        if keep <= 0 or (isinstance(keep, float) and keep > 1) or after < 1:
            raise BadInput(
                f"keep is a share above 0 and at most 1.0, or a number, and after at least 1; given {keep} and {after}"
            )
        self.keep, self.after = keep, after

    def stays(
        self, received: Float[Tensor, "B G M"], real: Bool[Tensor, "B G M"], passes: int
    ) -> Bool[Tensor, "B G M"] | None:
        """Once, after so many passes."""
        if passes != self.after:
            return None
        count = real.sum(-1, keepdim=True)
        room = (self.keep * count.double()).round().long().clamp(min=1) if isinstance(self.keep, float) else self.keep
        rank = received.masked_fill(~real, -1.0).argsort(dim=-1, descending=True, stable=True).argsort(-1)
        return rank < room


@method(
    "streaming-llm",
    title="Efficient Streaming Language Models with Attention Sinks",
    authors="Xiao et al.",
    year=2023,
    arxiv="2309.17453",
    idea="Keep the first few tokens, on which attention rests, beside a sliding window: text without end in bounded memory.",
)
def streaming_llm(model: Model, *, sinks: int = 4, window: int = 1020) -> Sinks:
    """The policy under which a trained decoder goes on without end: `generate(model, ..., policy=streaming_llm(model))`.

    The positions must be relative (section 3.2); a table of places ends where the training did.
    """
    added = getattr(model.embedding, "positions", None)
    if isinstance(added, Position):
        raise DoesNotFit(
            f"{type(added).__name__} gives each token a place of its own in the text, and a stream has no end; "
            "use rotary, ALiBi or other relative positions",
            "embedding.positions",
        )
    return Sinks(sinks=sinks, window=window)
