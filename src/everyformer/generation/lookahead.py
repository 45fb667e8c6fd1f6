"""Lookahead decoding: guesses said again and again leave short runs of tokens behind, which are tried where they fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.generation.decoding import Decoding
from everyformer.generation.guessing import Guessing, agreed, take_back
from everyformer.registry import method, part


@dataclass
class Pool:
    """The runs of `size` tokens that one sequence knows by their first, and its guesses of the last passes."""

    size: int
    runs: dict[int, tuple[int, ...]] = field(default_factory=dict)
    trail: list[dict[int, int]] = field(default_factory=list)
    """Of the last passes what was guessed for each place, the latest last."""
    said: list[int] = field(default_factory=list)

    def say(self, tokens: list[int]) -> None:
        """Take tokens into the text, and its runs into the pool."""
        first = max(0, len(self.said) - self.size + 1)
        self.said += tokens
        for start in range(first, len(self.said) - self.size + 1):
            run = self.said[start : start + self.size]
            self.runs[run[0]] = tuple(run[1:])

    def guess(self, count: int, fill: int) -> list[int]:
        """The next `count` tokens: the run that is known after the last one, then the last pass's guesses."""
        run, latest, place = self.runs.get(self.said[-1], ()), self.trail[-1] if self.trail else {}, len(self.said)
        return [*run[:count], *(latest.get(place + i, fill) for i in range(len(run), count))]

    def collect(self, said: list[int]) -> None:
        """Take one pass's answer for the places to come: runs go down through the passes, a place each."""
        self.trail = [*self.trail, dict(enumerate(said, len(self.said)))][-self.size :]
        if len(self.trail) < self.size:
            return
        for place in self.trail[0]:
            run = [each.get(place + i) for i, each in enumerate(self.trail)]
            if None not in run:
                self.runs[run[0]] = tuple(run[1:])  # type: ignore[index, arg-type]


@dataclass
class Pools:
    """One pool for each sequence."""

    each: list[Pool]

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep some of the sequences."""
        self.each = [self.each[row] for row in rows.tolist()]


@part("generation")
class Lookahead(Guessing):
    """The tokens of `Greedy`, from runs of `size` tokens met before (Fu et al., 2024, sections 3.1 to 3.3).

    In each pass `window` guesses are said again, as by `Jacobi`; across passes they leave runs behind, which stand in a pool
    beside those of the prompt and of the text. The latest run that begins with the last token is guessed first. Both
    branches of the paper are one line of tokens here, which needs no mask of its own and tries one run a pass.
    """

    def __init__(self, *, window: int = 8, size: int = 4, fill: int = 0) -> None:
        super().__init__()
        if window < 1 or size < 2:
            raise BadInput(f"window {window} is at least 1 and size {size} at least 2")
        self.window, self.size, self.fill = window, size, fill

    def begin(self, decoding: Decoding, logits: Float[Tensor, "B V"]) -> tuple[Pools, Int[Tensor, " B"]]:
        """Pools of the runs of the prompts."""
        take_back(decoding)
        last, pools = logits.argmax(-1), []
        for row, token in enumerate(last.tolist()):
            ids = decoding.ids[row] if decoding.mask is None else decoding.ids[row][decoding.mask[row]]
            pools.append(Pool(self.size))
            pools[-1].say([*ids.tolist(), token])
        return Pools(pools), last

    def round(
        self, decoding: Decoding, kept: Pools, last: Int[Tensor, " B"], ahead: int
    ) -> tuple[list[list[int]], Int[Tensor, " B"]]:
        """One pass over the guesses of each sequence."""
        count = min(self.window, ahead - 1)
        guesses = torch.tensor([each.guess(count, self.fill) for each in kept.each], device=last.device).long()
        said = decoding.feed(torch.cat((last[:, None], guesses), 1)).argmax(-1)
        found = agreed(guesses, said[:, :-1]) + 1
        decoding.rewind(count + 1, found)
        new = []
        for pool, row, each in zip(kept.each, said.tolist(), found.tolist()):
            pool.collect(row)
            pool.say(row[:each])
            new.append(row[:each])
        return new, said.gather(1, found[:, None] - 1)[:, 0]


@method(
    "lookahead-decoding",
    title="Break the Sequential Dependency of LLM Inference Using Lookahead Decoding",
    authors="Fu et al.",
    year=2024,
    arxiv="2402.02057",
    idea="Parallel guesses leave runs of tokens behind; one that fits later saves the passes it is long: greedy's tokens.",
)
def lookahead(*, window: int = 8, size: int = 4) -> Lookahead:
    """The strategy, for `generate(model, ..., strategy=lookahead())`: see `Lookahead`."""
    return Lookahead(window=window, size=size)
