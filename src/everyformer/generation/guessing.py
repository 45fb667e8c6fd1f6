"""Strategies that guess several tokens ahead and take back those that the model would not have said."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import DoesNotFit
from everyformer.generation.decoding import Decoding, takes_padding
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Hypothesis, Strategy, Stream, take


class Kept(Protocol):
    """What a strategy keeps of each sequence from round to round."""

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep some of the sequences."""


class Guessing(Strategy):
    """Base: rounds of one pass, each of which gives every sequence at least one token; those that end leave the batch."""

    def begin(self, decoding: Decoding, logits: Float[Tensor, "B V"]) -> tuple[Any, Int[Tensor, " B"]]:
        """What is kept (see `Kept`), and the first token of each sequence."""
        raise NotImplementedError

    def round(
        self, decoding: Decoding, kept: Any, last: Int[Tensor, " B"], ahead: int
    ) -> tuple[list[list[int]], Int[Tensor, " B"]]:
        """The new tokens of each sequence after `last`, and the last of them, not yet fed; `ahead` tokens fit yet."""
        raise NotImplementedError

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sequence; each round streams what it accepted."""
        rows = list(range(len(decoding.ids)))
        found: list[list[int]] = [[] for _ in rows]
        kept, last = self.begin(decoding, decoding.start())
        new = last[:, None].tolist()
        while True:
            going = [i for i, row in enumerate(rows) if _go_on(new[i], row, found[row], ends, stream, max_tokens)]
            if not going:
                return [[Hypothesis(tokens)] for tokens in found]
            if len(going) < len(rows):
                left = torch.tensor(going, device=last.device)
                decoding.select(left)
                kept.select(left)
                rows, last = [rows[i] for i in going], last[left]
            ahead = max_tokens - max(len(found[row]) for row in rows)
            new, last = self.round(decoding, kept, last, ahead)


def _go_on(new: list[int], row: int, found: list[int], ends: Ends, stream: Stream | None, max_tokens: int) -> bool:
    """Add the tokens of a round to a sequence, up to its end; whether it goes on."""
    return not any(take(token, row, found, ends, stream) or len(found) == max_tokens for token in new)


def take_back(decoding: Decoding) -> None:
    """Give up a cache that cannot take tokens back; refuse to where it has a policy, which would be given up with it."""
    cache = decoding.context.cache
    if cache is not None and not (cache.rewinds and takes_padding(decoding.model)):
        if cache.policy is not None:
            raise DoesNotFit(
                "guesses are taken back, and a cache whose policy drops tokens layer by layer cannot take tokens back; "
                "use Greedy, Sample or Beam, or another policy",
                "policy",
            )
        decoding.context.cache = None
    for other in decoding.beside:
        take_back(other)


def agreed(guesses: Int[Tensor, "B A"], said: Int[Tensor, "B A"]) -> Int[Tensor, " B"]:
    """How many guesses of each sequence, from the first on, are what was said."""
    return (guesses == said).cumprod(1).sum(1)
