"""Greedy decoding as a system of equations, solved for many tokens at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.generation.decoding import Decoding
from everyformer.generation.guessing import Guessing, agreed, take_back
from everyformer.registry import method, part


@dataclass
class Blocks:
    """The guesses of the block that each sequence is in, and how many tokens it has said."""

    guesses: Int[Tensor, "B A"]
    left: Int[Tensor, " B"]
    """Tokens of the block still to be found."""
    said: Int[Tensor, " B"]

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep some of the sequences."""
        self.guesses, self.left, self.said = self.guesses[rows], self.left[rows], self.said[rows]


@part("generation")
class Jacobi(Guessing):
    """The tokens of `Greedy`, a block at a time (Santilli et al., 2023, section 3): y_i = argmax p(. | y_<i) for all i at once.

    A block of `block` tokens, begun with the token `fill`, is said again until nothing in it changes, which is after as many
    passes at most; then comes the next (Gauss-Seidel over blocks: algorithm 2). None: all tokens are one block (algorithm 1).
    After `limit` tokens one follows the other (the hybrid, algorithm 3); None: never. Sequences of a batch that are further on
    guess into their next block.
    """

    def __init__(self, *, block: int | None = 5, limit: int | None = None, fill: int = 0) -> None:
        super().__init__()
        if (block is not None and block < 1) or (limit is not None and limit < 0):
            raise BadInput(f"block {block} is at least 1 and limit {limit} at least 0, or None")
        self.block, self.limit, self.fill = block, limit, fill

    def begin(self, decoding: Decoding, logits: Float[Tensor, "B V"]) -> tuple[Blocks, Int[Tensor, " B"]]:
        """Blocks of which nothing is known but the first token."""
        take_back(decoding)
        last = logits.argmax(-1)
        said = torch.ones_like(last)
        return Blocks(last[:, None][:, :0], self.size(said) - 1, said), last

    def size(self, said: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """How many tokens the next block of each sequence has."""
        whole = torch.full_like(said, 2**31 - 1 if self.block is None else self.block)
        return whole if self.limit is None else torch.where(said < self.limit, whole, 1)

    def round(
        self, decoding: Decoding, kept: Blocks, last: Int[Tensor, " B"], ahead: int
    ) -> tuple[list[list[int]], Int[Tensor, " B"]]:
        """One pass over what is left of the blocks."""
        kept.left = torch.where(kept.left < 1, self.size(kept.said), kept.left)
        count = min(ahead, int(kept.left.max()))
        guesses = torch.cat((kept.guesses, last[:, None].new_full((len(last), count), self.fill)), 1)[:, : count - 1]
        said = decoding.feed(torch.cat((last[:, None], guesses), 1)).argmax(-1)
        found = agreed(guesses, said[:, :-1]) + 1
        decoding.rewind(count, found)
        behind = torch.arange(count, device=last.device) + found[:, None]
        kept.guesses = said.gather(1, behind.clamp(max=count - 1)).masked_fill(behind >= count, self.fill)
        kept.left, kept.said = kept.left - found, kept.said + found
        new = [row[:each] for row, each in zip(said.tolist(), found.tolist())]
        return new, said.gather(1, found[:, None] - 1)[:, 0]


@method(
    "parallel-jacobi-decoding",
    title="Accelerating Transformer Inference for Translation via Parallel Decoding",
    authors="Santilli et al.",
    year=2023,
    arxiv="2305.10427",
    idea="Guess all tokens and say them again at once until nothing changes: exactly the greedy ones, in fewer passes.",
)
def parallel_jacobi(*, block: int | None = 5, limit: int | None = None, fill: int = 0) -> Jacobi:
    """The strategy, for `generate(model, ..., strategy=parallel_jacobi())`: see `Jacobi`."""
    return Jacobi(block=block, limit=limit, fill=fill)
