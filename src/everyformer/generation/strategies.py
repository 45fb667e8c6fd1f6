"""How the next token is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.generation import filters
from everyformer.generation.decoding import Decoding
from everyformer.generation.stops import Ends
from everyformer.registry import Part, part

Stream = Callable[[int, int], None]
"""Called with the number of a sequence in the batch and its new token."""


@dataclass(frozen=True)
class Hypothesis:
    """The new tokens of one sequence, without the end token, and their score."""

    tokens: list[int]
    score: float | None = None
    """What the strategy ranks by; None where it does not rank."""


class Strategy(Part):
    """Base of strategies: `forward` runs a batch to its end."""

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """For each sequence its hypotheses, the best first."""
        raise NotImplementedError


class Single(Strategy):
    """Base of strategies that go on with one token per sequence; a sequence that ends leaves the batch."""

    generator: torch.Generator | None = None
    """What draws; None is PyTorch's own."""

    @property
    def remembers(self) -> bool:
        """Whether the tokens seen count."""
        return False

    def probabilities(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Float[Tensor, "B V"]:
        """How probable this strategy makes each next token; `seen` marks those a sequence holds, where it `remembers`."""
        raise NotImplementedError

    def draw(self, probabilities: Float[Tensor, "B V"]) -> Int[Tensor, " B"]:
        """One token for each sequence."""
        return torch.multinomial(probabilities, 1, generator=self.generator)[:, 0]

    def choose(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Int[Tensor, " B"]:
        """The next token of each sequence."""
        return self.draw(self.probabilities(logits, seen))

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sequence."""
        rows = list(range(len(decoding.ids)))
        found: list[list[int]] = [[] for _ in rows]
        logits = decoding.start()
        seen = seen_by(decoding, logits) if self.remembers else None
        for left in reversed(range(max_tokens)):
            tokens = self.choose(logits, seen)
            going = unfinished(tokens, rows, found, ends, stream)
            if not going or not left:
                break
            if len(going) < len(rows):
                kept = torch.tensor(going, device=tokens.device)
                decoding.select(kept)
                rows, tokens = [rows[i] for i in going], tokens[kept]
                seen = None if seen is None else seen[kept]
            seen = mark(seen, tokens)
            logits = decoding.step(tokens)
        return [[Hypothesis(tokens)] for tokens in found]


def take(token: int, row: int, found: list[int], ends: Ends, stream: Stream | None) -> bool:
    """Add a token to a sequence; true where that ended it."""
    if token in ends.eos:
        return True
    found.append(token)
    if stream is not None:
        stream(row, token)
    return ends.stops and ends.stopped(found)


def unfinished(
    tokens: Int[Tensor, " B"], rows: list[int], found: list[list[int]], ends: Ends, stream: Stream | None
) -> list[int]:
    """Which of the sequences in the batch go on after these tokens, which are put to what their rows have found."""
    return [
        i for i, (row, token) in enumerate(zip(rows, tokens.tolist())) if not take(token, row, found[row], ends, stream)
    ]


def seen_by(decoding: Decoding, logits: Float[Tensor, "B V"]) -> Bool[Tensor, "B V"]:
    """The tokens that each prompt holds."""
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    if decoding.mask is None:
        return seen.scatter_(1, decoding.ids, True)
    row, column = decoding.mask.nonzero(as_tuple=True)
    seen[row, decoding.ids[row, column]] = True
    return seen


def mark(seen: Bool[Tensor, "B V"] | None, tokens: Int[Tensor, " B"]) -> Bool[Tensor, "B V"] | None:
    """The tokens seen, with one more for each sequence."""
    return None if seen is None else seen.scatter(1, tokens[:, None], True)


@part("generation")
class Greedy(Single):
    """The most probable token at each step."""

    def choose(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Int[Tensor, " B"]:
        """The largest logit."""
        return logits.argmax(-1)

    def probabilities(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Float[Tensor, "B V"]:
        """All on the largest logit."""
        return torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0)


@part("generation")
class Sample(Single):
    """A token drawn by its probability, after the filters of `filters.py` in this order; each is off by default.

    `generator` draws; None is PyTorch's own.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0 or repetition_penalty <= 0:
            raise BadInput(
                f"temperature {temperature} and repetition_penalty {repetition_penalty} must be above 0; "
                "for the most probable token use Greedy"
            )
        if not 0 < top_p <= 1 or not 0 <= min_p <= 1:
            raise BadInput(f"top_p {top_p} must be in (0, 1] and min_p {min_p} in [0, 1]")
        if top_k is not None and top_k < 1:
            raise BadInput(f"top_k {top_k} must be at least 1; None keeps all tokens")
        self.temperature, self.top_k, self.top_p, self.min_p = temperature, top_k, top_p, min_p
        self.repetition_penalty, self.generator = repetition_penalty, generator

    @property
    def remembers(self) -> bool:
        """Whether repetition is penalised."""
        return self.repetition_penalty != 1.0

    def filter(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Float[Tensor, "B V"]:
        """The logits that are drawn from."""
        if seen is not None:
            logits = filters.repetition(logits, seen, self.repetition_penalty)
        if self.temperature != 1.0:
            logits = filters.temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = filters.top_k(logits, self.top_k)
        if self.top_p < 1.0:
            logits = filters.top_p(logits, self.top_p)
        return filters.min_p(logits, self.min_p) if self.min_p else logits

    def probabilities(self, logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"] | None) -> Float[Tensor, "B V"]:
        """Those of the filtered logits."""
        return self.filter(logits, seen).softmax(-1)
