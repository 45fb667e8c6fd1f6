"""Reductions by a threshold: each sequence keeps a number of tokens of its own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.reduction.base import Slot, Step, chosen, free, lay_out, real
from everyformer.reduction.pruning import ClassAttention, Pruner
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class Above(Step):
    """Base of reductions that keep the tokens whose score is at least `least`; leading ones stay."""

    def __init__(self, width: int, *, least: float = 0.5) -> None:
        super().__init__()
        self.least = least

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """What each token is worth."""
        raise NotImplementedError

    def decide(self, tokens: Tokens, context: Context) -> Bool[Tensor, "B N"]:
        """Which tokens stay: the best one, where none would."""
        scores, here = self.scores(tokens, context), real(tokens)
        stay = here & (self.passing(scores, free(tokens), context) | ~free(tokens))
        best = scores.masked_fill(~here, -torch.inf).argmax(1, keepdim=True)
        return stay.scatter(1, best, stay.gather(1, best) | (here.any(1, keepdim=True) & ~stay.any(1, keepdim=True)))

    def passing(self, scores: Float[Tensor, "B N"], may: Bool[Tensor, "B N"], context: Context) -> Bool[Tensor, "B N"]:
        """Which of the scores are high enough; `may` are the tokens that they decide on."""
        return scores >= self.least

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The tokens that stay, in rows as long as the longest of them."""
        stay = self.decide(tokens, context)
        total = _longest(stay)
        slot, index = lay_out(stay, total)
        fewer = chosen(tokens.replace(mask=real(tokens)), index, stay.sum(1, keepdim=True))
        return fewer, slot.masked_fill(slot == total, -1)

    def extra_repr(self) -> str:
        """The threshold."""
        return f"least={self.least}"


def _longest(stay: Bool[Tensor, "B N"]) -> int:
    """Tokens of the longest row; of all where no value is known, in a graph and on the meta device."""
    if stay.is_meta or torch.compiler.is_compiling():
        return stay.shape[1]
    return int(stay.sum(1).max())


@part("reduction")
class Threshold(Above):
    """The tokens that `pruner` scores at least `least` times as high as the mean token of the sequence stay."""

    def __init__(self, width: int, *, pruner: Spec[Pruner] = spec(ClassAttention), least: float = 0.5) -> None:  # noqa: B008
        super().__init__(width, least=least)
        self.pruner: Pruner = self.make("pruner", pruner, width)
        if not isinstance(self.pruner, Pruner):
            raise ValueError(f"a pruner has scores; given {type(self.pruner).__name__}")
        self.wants_attention, self.needs_attention = self.pruner.wants_attention, self.pruner.needs_attention

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """The pruner's, over their mean."""
        scores, may = self.pruner.scores(tokens, context), free(tokens)
        mean = (scores * may).sum(1, keepdim=True) / may.sum(1, keepdim=True).clamp(min=1)
        return scores / mean.clamp(min=1e-9)


@part("reduction")
class Interpreter(Above):
    """Tokens stay by the chance mean_h sigmoid(F_q^h(c) . F_k^h(p)), c the class token (Pan et al., IA-RED^2, 2021).

    In use those of `least` or more stay, in training they are drawn. Each decision is noted in the context, for an objective
    that rewards it: its log-probability, "decision i", and the share of the patches that it left, "left i", both (B,).
    The mean of all tokens asks where there is no class token.
    """

    def __init__(self, width: int, *, heads: int = 4, least: float = 0.5) -> None:
        super().__init__(width, least=least)
        if heads < 1 or width % heads:
            raise ValueError(f"heads divide the width {width}; given {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """The chance that each token stays."""
        asking = tokens.values[:, :1] if tokens.prefix else tokens.mean()[:, None]
        query = self.query(asking).unflatten(-1, (self.heads, -1))
        key = self.key(tokens.values).unflatten(-1, (self.heads, -1))
        return ((query * key).sum(-1) * key.shape[-1] ** -0.5).sigmoid().mean(-1)

    def passing(self, scores: Float[Tensor, "B N"], may: Bool[Tensor, "B N"], context: Context) -> Bool[Tensor, "B N"]:
        """Which tokens stay."""
        stay = scores >= self.least
        if self.training:
            stay = torch.rand(scores.shape, device=scores.device, generator=context.generator) < scores
        if context.notes is not None:
            stage = sum(name.startswith("left") for name in context.notes)
            logs = torch.where(stay, scores, 1 - scores).clamp(min=1e-6).log()
            context.notes[f"decision {stage}"] = (logs * may).sum(1)
            context.notes[f"left {stage}"] = (stay & may).sum(1) / may.sum(1).clamp(min=1)
        return stay
