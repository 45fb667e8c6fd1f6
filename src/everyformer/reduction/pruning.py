"""Reductions that drop tokens: the best by a score stay, in their order."""

from __future__ import annotations

import operator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.reduction.base import (
    Share,
    Slot,
    Step,
    attention,
    chosen,
    features,
    free,
    lay_out,
    mass,
    real,
    received,
)
from everyformer.registry import part
from everyformer.tokens import Tokens


class Pruner(Share):
    """Base of pruners: `scores` says what each token is worth."""

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """What each token is worth."""
        raise NotImplementedError

    def best(self, scores: Float[Tensor, "B N"], tokens: Tokens) -> Bool[Tensor, "B N"]:
        """The leading tokens and those of the highest scores, as many as stay."""
        total, counts = self.counts(tokens)
        lead = torch.arange(tokens.count, device=scores.device) < tokens.prefix
        scores = scores.masked_fill(~real(tokens), -torch.inf).masked_fill(lead, torch.inf)
        top = scores.topk(total, 1).indices
        filled = torch.arange(total, device=scores.device) < counts
        return torch.zeros_like(scores, dtype=torch.bool).scatter(1, top, filled.expand_as(top))

    def decide(self, tokens: Tokens, context: Context) -> Bool[Tensor, "B N"]:
        """Which tokens stay."""
        return self.best(self.scores(tokens, context), tokens)

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The tokens that stay."""
        total, counts = self.counts(tokens)
        slot, index = lay_out(self.decide(tokens, context), total)
        return chosen(tokens, index, counts), slot.masked_fill(slot == total, -1)


def masked(tokens: Tokens, stay: Bool[Tensor, "B N"]) -> Tokens:
    """The tokens of a decision as padding instead of gathered: what the others become is the same."""
    return tokens.replace(mask=real(tokens) & stay)


@part("reduction")
class RandomDrop(Pruner):
    """In training tokens drawn at random stay, else all (PatchDropout; Koutini et al., PaSST, 2022, unstructured)."""

    def idle(self, tokens: Tokens) -> bool:
        """Whether all tokens stay."""
        return not self.training or super().idle(tokens)

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """Random numbers."""
        return torch.rand(tokens.values.shape[:2], device=tokens.values.device, generator=context.generator)


@part("reduction")
class Patchout(Step):
    """In training `rows` rows and `columns` columns of the grid go, drawn at random, the same in the whole batch
    (Koutini et al., PaSST, 2022, section 3.2, structured); else all tokens stay. What is left is a grid again.
    """

    capabilities = frozenset({"grid"})
    gives_grid = True

    def __init__(self, width: int, *, rows: int = 4, columns: int = 40) -> None:
        super().__init__()
        if rows < 0 or columns < 0:
            raise ValueError(f"rows and columns are numbers of what goes; given {rows} and {columns}")
        self.rows, self.columns = rows, columns

    def idle(self, tokens: Tokens) -> bool:
        """Whether all tokens stay."""
        return not self.training or not (self.rows or self.columns)

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The tokens of the rows and columns that stay, in their order."""
        lost = self.rows, self.columns
        if tokens.grid is None or len(tokens.grid) != 2 or any(map(operator.le, tokens.grid, lost)):
            raise BadInput(f"Patchout takes {lost} rows and columns out of a larger grid; here it is {tokens.grid}")
        device, lead = tokens.values.device, tokens.prefix
        stay = []
        for side, gone in zip(tokens.grid, lost, strict=True):
            drawn = torch.rand(side, device=device, generator=context.generator)
            stay.append(drawn.topk(side - gone).indices.sort().values)
        cells = stay[0][:, None] * tokens.grid[1] + stay[1]
        index = torch.cat((torch.arange(lead, device=device), lead + cells.flatten())).expand(tokens.batch, -1)
        slot = torch.full((tokens.batch, tokens.count), -1, device=device)
        slot = slot.scatter(1, index, torch.arange(index.shape[1], device=device).expand_as(index))
        fewer = chosen(tokens, index, torch.full((1, 1), index.shape[1], device=device))
        return fewer.replace(grid=(len(stay[0]), len(stay[1]))), slot


@part("reduction")
class Redundant(Pruner):
    """Those go that are most like all others, by their mean cosine: at several depths, the progressive masking of redundant
    tokens (Shi et al., Hybrid Distillation, 2023).
    """

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """How unlike each is to the others."""
        return -alike(tokens.values, free(tokens))


def alike(values: Float[Tensor, "B N D"], among: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """The mean cosine of each token with those among which it is."""
    unit = F.normalize(values.float(), dim=-1)
    return (unit @ unit.mT).masked_fill(~among[:, None], 0).sum(-1) / among.sum(1, keepdim=True).clamp(min=1)


@part("reduction")
class ClassAttention(Pruner):
    """Those stay that the class token attends to most, or all tokens where there is none (Liang et al., EViT, 2022,
    section 3.2, without its fused token).
    """

    needs_attention = True

    def scores(self, tokens: Tokens, context: Context) -> Float[Tensor, "B N"]:
        """The attention received, mean over heads."""
        return received(self, tokens, context)


@part("reduction")
class EViT(ClassAttention):
    """Inattentive tokens become one token, their sum weighted by the attention they get (Liang et al., EViT, 2022,
    section 3.3).
    """

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The attentive tokens, and after the last of each sequence the fused one, unless it lost none."""
        scores = self.scores(tokens, context)
        total, counts = self.counts(tokens)
        stay = self.best(scores, tokens)
        slot, index = lay_out(stay, total)
        kept = chosen(tokens, index, counts)
        share = (scores * (real(tokens) & ~stay)).to(tokens.values.dtype)
        fused = share[:, None] @ tokens.values
        gone = (real(tokens) & ~stay).any(1, keepdim=True)
        place = (share[:, None] @ tokens.places.to(share.dtype)) / share.sum(1).clamp(min=1e-6)[:, None, None]
        at = torch.arange(total + 1, device=share.device) == counts
        values = torch.where(at[..., None], fused, torch.cat((kept.values, fused), 1))
        places = kept.places.to(share.dtype)
        places = torch.where(at[..., None], place, torch.cat((places, place), 1))
        mask = None
        if kept.mask is not None:
            mask = torch.arange(total + 1, device=share.device) < counts + gone
        weights = None
        if kept.weights is not None:
            lost = (mass(tokens) * ~stay).sum(1, keepdim=True)
            weights = torch.where(at, lost, torch.cat((kept.weights, lost), 1))
        slot = torch.where(slot == total, counts, slot).masked_fill(~real(tokens), -1)
        return Tokens(values, mask=mask, positions=places, prefix=tokens.prefix, weights=weights), slot


@part("reduction")
class ZeroTPrune(Pruner):
    """Tokens that are like a more important one go first, then unimportant ones (Wang et al., Zero-TPrune, 2024).

    Importance is a weighted PageRank on the attention graph, `rounds` steps of it, taken over the heads whose scores
    vary (section 3.2; variance of N s, between `low` and `high`). `similar` is the share of what goes that goes for
    likeness (section 3.3): of the tokens in the order of their rank every other one may go, those closest to one of the rest.
    """

    needs_attention = True

    def __init__(
        self,
        width: int,
        *,
        keep: float = 0.7,
        remove: int | None = None,
        similar: float = 0.5,
        rounds: int = 5,
        low: float = 0.01,
        high: float = 0.7,
    ) -> None:
        super().__init__(width, keep=keep, remove=remove)
        if not 0 <= similar <= 1:
            raise ValueError(f"similar is a share; given {similar}")
        self.similar, self.rounds, self.low, self.high = similar, rounds, low, high

    def decide(self, tokens: Tokens, context: Context) -> Bool[Tensor, "B N"]:
        """I', S, I: rank all, drop the like, rank what is left, drop the unimportant."""
        graph = attention(self, context).weights()
        ranked = self.rank(graph, mass(tokens))
        _, counts = self.counts(tokens)
        lose = ((real(tokens).sum(1, keepdim=True) - counts) * self.similar).floor()
        left = ~self.like(features(tokens, context), ranked, free(tokens), lose) & real(tokens)
        fresh = self.rank(graph, mass(tokens) * left)
        return self.best(fresh.masked_fill(~left, -1.0), tokens)

    def rank(self, graph: Float[Tensor, "B H N N"], weights: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """The PageRank of the tokens of a weight above 0, mean square over the heads that the filter lets through."""
        here = (weights > 0).to(graph.dtype)[:, None]
        count = here.sum(-1, keepdim=True).clamp(min=1)
        score = here.expand(graph.shape[:3]) / count
        for _ in range(self.rounds):
            score = (score[:, :, None] @ graph)[:, :, 0] * here
            score = score / score.sum(-1, keepdim=True).clamp(min=1e-9)
        spread = ((score * count - here) ** 2).sum(-1) / count[..., 0]
        through = (spread > self.low) & (spread < self.high)
        through = (through | ~through.any(1, keepdim=True)).to(score.dtype)[..., None]
        return ((score**2 * through).sum(1) / through.sum(1)).sqrt()

    def like(
        self, vectors: Float[Tensor, "B N K"], ranked: Tensor, free: Bool[Tensor, "B N"], lose: Tensor
    ) -> Bool[Tensor, "B N"]:
        """Which of the `free` tokens go because another one is like them: `lose` of those of odd rank."""
        place = ranked.masked_fill(~free, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1)
        upper, lower = free & (place % 2 == 0), free & (place % 2 == 1)
        unit = F.normalize(vectors, dim=-1)
        near = (unit @ unit.mT).masked_fill(~upper[:, None], -torch.inf).amax(-1)
        near = near.masked_fill(~lower, -torch.inf)
        at = near.argsort(dim=1, descending=True, stable=True).argsort(1)
        return (at < lose) & lower
