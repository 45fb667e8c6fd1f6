"""Cache policies: which of the tokens seen stay in the cache."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from everyformer.context import Cache, Policy
from everyformer.contracts import Position
from everyformer.errors import DoesNotFit
from everyformer.models import Model
from everyformer.registry import method
from everyformer.tokens import order


class Sinks(Policy):
    """The first `sinks` tokens of each sequence and its last `window` (Xiao et al., 2023, section 3.2).

    Positions are those within the cache: the sinks move along behind the window.
    """

    closes = True

    def __init__(self, sinks: int = 4, window: int = 1020) -> None:
        if sinks < 0 or window < 1:
            raise ValueError(f"sinks is at least 0 and window at least 1; given {sinks} and {window}")
        self.sinks, self.window = sinks, window

    def keep(self, cache: Cache) -> Int[Tensor, " M"] | Int[Tensor, "B M"] | None:
        """The columns that stay; of sequences with padding each has its own."""
        size, count = self.sinks + self.window, cache.count
        if count <= size:
            return None
        if cache.mask is None:
            return torch.cat((torch.arange(self.sinks), torch.arange(count - self.window, count)))
        place, total = order(cache.mask), cache.mask.sum(1, keepdim=True)
        stays = cache.mask & ((place < self.sinks) | (place >= total - self.window))
        return stays.to(torch.uint8).argsort(dim=1, stable=True)[:, -size:]


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
    return Sinks(sinks, window)
