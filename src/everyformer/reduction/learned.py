"""Reductions with weights of their own, trained with the model."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.choices import choose
from everyformer.context import Context
from everyformer.reduction.base import Slot, Step, free, mass, real
from everyformer.reduction.pruning import Pruner
from everyformer.registry import part
from everyformer.tokens import Tokens

NOTHING = 1e-6
"""The mass of a dropped token, above 0 so that the decision to drop it has a gradient."""


@part("reduction")
class DynamicViT(Pruner):
    """A predictor says which tokens stay (Rao et al., DynamicViT, 2021, section 3.2); `keep` is a share of the source's.

    In use the best stay. In training none goes: a decision drawn by Gumbel-softmax sets the masses of tokens to nothing
    (section 3.3), where a token that was dropped once stays dropped; the decisions are noted for an objective.
    """

    def __init__(self, width: int, *, keep: float = 0.7, remove: int | None = None) -> None:
        super().__init__(width, keep=keep, remove=remove)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width // 2)
        self.quarter = nn.Linear(width // 2, width // 4)
        self.decision = nn.Linear(width // 4, 2)

    def remain(self, count: int) -> int:
        """The share of the source's tokens, rounded down."""
        if self.remove is not None:
            return super().remain(count)
        return min(max(math.floor(round(self.keep * count, 6)), 1), count)

    def counts(self, tokens: Tokens) -> tuple[int, Int[Tensor, "#B 1"]]:
        """How many tokens stay: of the source's, not of those still here."""
        if tokens.source is None or self.remove is not None:
            return super().counts(tokens)
        total, counts = super().counts(tokens.source)
        return min(total, tokens.count), torch.minimum(counts, real(tokens).sum(1, keepdim=True))

    def predict(self, tokens: Tokens) -> Float[Tensor, "B N 2"]:
        """Log-probabilities that a token stays and that it goes, from itself and from the mean of all that are left."""
        inner = F.gelu(self.inner(self.norm(tokens.values)))
        local, whole = inner.chunk(2, -1)
        left = (mass(tokens) * free(tokens))[..., None]
        whole = (whole * left).sum(1, keepdim=True) / left.sum(1, keepdim=True).clamp(min=NOTHING)
        hidden = F.gelu(self.narrow(torch.cat((local, whole.expand_as(local)), -1)))
        return self.decision(F.gelu(self.quarter(hidden))).log_softmax(-1)

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """The log-probability that a token stays."""
        return self.predict(tokens)[..., 0]

    def idle(self, tokens: Tokens) -> bool:
        """Whether all tokens stay."""
        return self.keep == 1 if self.remove is None else self.remove == 0

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The tokens that stay; in training all, with the decision as their mass."""
        if not self.training:
            return super().reduce(tokens, context)
        drawn = choose(self.predict(tokens), training=True, generator=context.generator)[..., 0]
        before = mass(tokens)
        stay = torch.where(free(tokens), drawn * before, before)
        if context.notes is not None:
            stages = sum(name.startswith("stay") for name in context.notes)
            context.notes[f"stay {stages}"] = stay
        own = torch.arange(tokens.count, device=stay.device).expand_as(stay)
        return tokens.replace(weights=NOTHING + (1 - NOTHING) * stay, origin=None, source=None), own


@part("reduction")
class TokenLearner(Step):
    """`tokens` weighted means of all tokens, the weights a softmax over them of a small MLP (Ryoo et al., TokenLearner,
    2021, section 2.1; version 1.1 of the official code). Leading tokens stay.
    """

    def __init__(self, width: int, *, tokens: int = 8, hidden: int = 64) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.choose = nn.Linear(hidden, tokens)

    def idle(self, tokens: Tokens) -> bool:
        """Whether there is nothing to learn from."""
        return tokens.count == tokens.prefix

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The leading tokens and the learned ones, which stand where their sources stand in the mean."""
        lead = tokens.prefix
        scores = self.choose(F.gelu(self.hidden(self.norm(tokens.values))))
        scores = scores.masked_fill(~free(tokens)[..., None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(1).mT
        places = weights @ tokens.places.to(weights.dtype)
        filled = None
        if tokens.mask is not None:
            filled = torch.cat(
                (tokens.mask[:, :lead], tokens.mask[:, lead:].any(1, keepdim=True).expand(-1, self.tokens)), 1
            )
        fewer = Tokens(
            torch.cat((tokens.values[:, :lead], weights @ tokens.values), 1),
            mask=filled,
            positions=torch.cat((tokens.places[:, :lead].expand(tokens.batch, -1, -1).to(places.dtype), places), 1),
            prefix=lead,
        )
        back = F.pad(weights.mT / weights.sum(1).clamp(min=1e-9)[..., None], (lead, 0))
        first = torch.arange(tokens.count, device=back.device) < lead
        own = torch.eye(*back.shape[1:], device=back.device, dtype=back.dtype)
        return fewer, torch.where(first[:, None], own, back) * real(tokens)[..., None]
