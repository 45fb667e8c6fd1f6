"""Beam search."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.generation.decoding import Decoding
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Hypothesis, Strategy, Stream
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec


@part("generation")
class Power(Part):
    """length ** exponent (Ott et al., fairseq, 2019): 0 scores by the sum, 1 by the mean."""

    def __init__(self, *, exponent: float = 1.0) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, length: int) -> float:
        """What the sum of log-probabilities of `length` tokens, the end token among them, is divided by."""
        return float(length**self.exponent)


@part("generation")
class GNMT(Part):
    """((5 + length) / 6) ** alpha (Wu et al., 2016, equation 14)."""

    def __init__(self, *, alpha: float = 0.6) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, length: int) -> float:
        """What the sum of log-probabilities of `length` tokens, the end token among them, is divided by."""
        return float(((5 + length) / 6) ** self.alpha)


class Found:
    """The best finished hypotheses of one sequence."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.best: list[Hypothesis] = []

    def add(self, tokens: list[int], score: float) -> None:
        """Keep a hypothesis while it is among the best."""
        self.best = sorted([*self.best, Hypothesis(tokens, score)], key=lambda h: -(h.score or 0.0))[: self.size]

    def closed(self, bound: float | None) -> bool:
        """Whether `size` are found and no open one, at best of score `bound`, can come among them; None: never mind."""
        return len(self.best) == self.size and (bound is None or bound <= (self.best[-1].score or 0.0))


@part("generation")
class Beam(Strategy):
    """The `size` best beginnings go on at each step; a finished one scores log p / penalty(length).

    A sequence is done with `size` finished hypotheses, as in fairseq, or, with `early` off, when no open beginning can
    still come among them. Beginnings open at the last token count as they stand.
    """

    def __init__(self, *, size: int = 4, penalty: Spec[Part] = spec(Power), early: bool = True) -> None:  # noqa: B008
        super().__init__()
        if size < 1:
            raise BadInput(f"a beam of size {size}; give 1 or more")
        self.size, self.early = size, early
        self.penalty = self.make("penalty", penalty)

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """The `size` best hypotheses of each sequence; they are streamed when they are known."""
        batch = len(decoding.ids)
        found = [Found(self.size) for _ in range(batch)]
        rows = list(range(batch))
        logits = decoding.start()
        scores = logits.new_zeros(batch, 1)
        for length in range(1, max_tokens + 1):
            scores, beams, tokens = self.extend(logits, scores, len(ends.eos))
            parents = torch.arange(len(rows), device=beams.device)[:, None] * (len(logits) // len(rows)) + beams
            ended = self.ended(decoding, parents, tokens, ends)
            last = length == max_tokens
            self.collect(decoding, parents, tokens, scores, ended | last, length, [found[r] for r in rows], ends)
            if last:
                break
            scores, place = scores.masked_fill(ended, float("-inf")).topk(min(self.size, scores.shape[1]))
            parents, tokens = parents.gather(1, place), tokens.gather(1, place)
            going = self.open(scores, length, max_tokens, [found[r] for r in rows])
            if not going:
                break
            if len(going) < len(rows) or parents.numel() != len(logits):
                kept = torch.tensor(going, device=parents.device)
                scores, parents, tokens = scores[kept], parents[kept], tokens[kept]
                decoding.select(parents.flatten())
                rows = [rows[i] for i in going]
            elif (parents.flatten() != torch.arange(parents.numel(), device=parents.device)).any():
                decoding.shuffle(parents.flatten())
            logits = decoding.step(tokens.flatten())
        if stream is not None:
            for row, each in enumerate(found):
                for token in each.best[0].tokens:
                    stream(row, token)
        return [each.best for each in found]

    def extend(
        self, logits: Float[Tensor, "B*S V"], scores: Float[Tensor, "B S"], eos: int
    ) -> tuple[Float[Tensor, "B C"], Int[Tensor, "B C"], Int[Tensor, "B C"]]:
        """The best candidates with one more token, enough that `size` stay open: score, beam, token."""
        vocabulary = logits.shape[-1]
        total = (logits.log_softmax(-1).unflatten(0, scores.shape) + scores[..., None]).flatten(1)
        best, index = total.topk(min(self.size * max(2, 1 + eos), total.shape[1]))
        return best, index // vocabulary, index % vocabulary

    def ended(
        self, decoding: Decoding, parents: Int[Tensor, "B C"], tokens: Int[Tensor, "B C"], ends: Ends
    ) -> Bool[Tensor, "B C"]:
        """Which candidates are finished."""
        ended = torch.zeros_like(tokens, dtype=torch.bool)
        for each in ends.eos:
            ended |= tokens == each
        if ends.stops:
            past = decoding.ids[parents.flatten(), decoding.prompt :].tolist()
            stopped = [ends.stopped([*p, t]) for p, t in zip(past, tokens.flatten().tolist())]
            ended |= torch.tensor(stopped, device=ended.device).view_as(ended)
        return ended

    def collect(
        self,
        decoding: Decoding,
        parents: Int[Tensor, "B C"],
        tokens: Int[Tensor, "B C"],
        scores: Float[Tensor, "B C"],
        ended: Bool[Tensor, "B C"],
        length: int,
        found: list[Found],
        ends: Ends,
    ) -> None:
        """Keep the finished among the best `size` candidates; the others are there to go on in their place."""
        penalty = self.penalty(length)
        top = ended[:, : self.size] & scores[:, : self.size].isfinite()
        for row, column in top.nonzero().tolist():
            past = decoding.ids[parents[row, column], decoding.prompt :].tolist()
            token = int(tokens[row, column])
            new = past if token in ends.eos else [*past, token]
            found[row].add(new, float(scores[row, column]) / penalty)

    def open(self, scores: Float[Tensor, "B S"], length: int, max_tokens: int, found: list[Found]) -> list[int]:
        """The sequences that go on."""
        bound = 1 / max(self.penalty(length), self.penalty(max_tokens))
        best = scores[:, 0].tolist()
        return [
            i for i, each in enumerate(found)
            if best[i] > float("-inf") and not each.closed(None if self.early else best[i] * bound)
        ]  # fmt: skip
