"""Steps around the normaliser: on scores before it, on weights after it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import sizes
from everyformer.contracts import Scored, ScoreStep
from everyformer.registry import part

Scores = Float[Tensor, "B H N M"]


def _heads(heads: int, bias: bool) -> nn.Linear:
    """A map among the heads that begins as the identity."""
    made = nn.Linear(heads, heads, bias=bias)
    made.own_init = True  # type: ignore[assignment]
    nn.init.eye_(made.weight)
    if bias:
        nn.init.zeros_(made.bias)
    return made


@part("scores")
class MixScores(ScoreStep):
    """Heads talk before softmax: each takes a learned sum of the scores of all (Shazeer et al., 2020, section 3)."""

    def __init__(self, heads: int, width: int, *, bias: bool = False) -> None:
        super().__init__(heads, width)
        self.mix = _heads(heads, bias)

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The mixed scores."""
        return self.mix(scores.movedim(1, -1)).movedim(-1, 1)


@part("scores")
class MixWeights(ScoreStep):
    """Heads talk after softmax: each takes a learned sum of the weights of all (Shazeer et al., 2020, section 3)."""

    def __init__(self, heads: int, width: int, *, bias: bool = False) -> None:
        super().__init__(heads, width)
        self.mix = _heads(heads, bias)

    def weights(self, weights: Scores, at: Scored) -> Scores:
        """The mixed weights."""
        return self.mix(weights.movedim(1, -1)).movedim(-1, 1)


@part("scores")
class SoftCap(ScoreStep):
    """cap tanh(s / cap) (Gemma 2, 2024, section 2)."""

    def __init__(self, heads: int, width: int, *, cap: float = 50.0) -> None:
        super().__init__(heads, width)
        self.cap = cap

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The capped scores."""
        return self.cap * (scores / self.cap).tanh()


@part("scores")
class LengthScale(ScoreStep):
    """s log(n) times a learned factor of each head, n keys to be seen: long inputs stay sharp (Nakanishi, 2025, equation 3)."""

    capabilities = ScoreStep.capabilities - {"weights"}

    def __init__(self, heads: int, width: int, *, start: float = 0.43) -> None:
        super().__init__(heads, width)
        self.factor = nn.Parameter(torch.full((heads, 1, 1), start))

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The scaled scores."""
        if at.allowed is None:
            seen = torch.full((1,), scores.shape[-1], device=scores.device)
        else:
            seen = at.allowed.sum(-1, keepdim=True).clamp(min=1)
        return scores * self.factor * seen.to(scores.dtype).log()


@part("scores")
class KeyBias(ScoreStep):
    """u k_j / sqrt(K) is added, with a learned u for each head: some keys matter to all (Dai et al., 2019, section 3.3)."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__(heads, width)
        self.vector = nn.Embedding(heads, width)
        nn.init.normal_(self.vector.weight, std=0.02)

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The scores with the bias of their key."""
        vector = self.vector(torch.arange(scores.shape[1], device=scores.device)).to(scores.dtype)[:, None]
        return scores + vector @ at.key.mT * vector.shape[-1] ** -0.5


@part("scores")
class LogRounded(ScoreStep):
    """Each weight as the nearest 2^(-q / octave), q of `bits`; one too small for the last q as 0 (Li et al., RepQ-ViT, 2023,
    their code): an octave of 1 is a shift of bits, of 2 a shift and, for odd q, a factor of sqrt(2).

    The gradient is that of the identity.
    """

    derivative = False

    def __init__(self, heads: int, width: int, *, bits: int = 4, octave: int = 2) -> None:
        super().__init__(heads, width)
        if bits < 1 or octave < 1:
            raise ValueError(f"bits and octave are at least 1; given {bits} and {octave}")
        self.bits, self.octave = bits, octave

    def weights(self, weights: Scores, at: Scored) -> Scores:
        """The rounded weights."""
        codes = (-self.octave * weights.detach().log2()).round()
        near = torch.exp2(-codes.clamp(min=0) / self.octave).masked_fill(codes >= 2**self.bits, 0.0)
        return weights + (near - weights).detach()


@part("scores")
class HandedOn(ScoreStep):
    """A layer adds the scores of the layer before and hands on its own (He et al., RealFormer, 2021, equation 2).

    Layers with the same `name` are a chain; the first of them adds nothing.
    """

    piecewise = False

    def __init__(self, heads: int, width: int, *, name: str = "scores") -> None:
        super().__init__(heads, width)
        self.name = name

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The sum of the scores of all layers so far."""
        key = handed(self.name, scores)
        if key in at.context.lowered:
            scores = scores + at.context.lowered[key]
        at.context.lowered[key] = scores
        return scores


@part("scores")
class Added(ScoreStep):
    """A layer adds the scores that a body handed on under a `name`, and hands on none (Zheng et al., PartialFormer, 2024)."""

    piecewise = False

    def __init__(self, heads: int, width: int, *, name: str = "first") -> None:
        super().__init__(heads, width)
        self.name = name

    def scores(self, scores: Scores, at: Scored) -> Scores:
        """The sum of both; the scores alone where none were handed on."""
        key = handed(self.name, scores)
        return scores + at.context.lowered[key] if key in at.context.lowered else scores


@part("scores")
class HeadMLP(ScoreStep):
    """W2 relu(W1 s) over the heads: the scores of a few become those of `to` heads (Zheng et al., PartialFormer, 2024).

    The values then stand in `to` heads.
    """

    def __init__(self, heads: int, width: int, *, to: int | None = None) -> None:
        super().__init__(heads, width)
        self.up = nn.Linear(heads, to or heads)
        self.down = nn.Linear(to or heads, to or heads)

    def scores(self, scores: Scores, at: Scored) -> Float[Tensor, "B P N M"]:
        """The scores of all heads."""
        return self.down(self.up(scores.movedim(1, -1)).relu()).movedim(-1, 1)


def handed(name: str, scores: Scores) -> tuple[object, ...]:
    """Where the scores of this shape that layers hand on under a name are kept in `context.lowered`."""
    return "handed on", name, sizes(*scores.shape)
