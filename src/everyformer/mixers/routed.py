"""Local attention in which the tokens of the most important segments see all and are seen by all."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.masks import Mask, Window
from everyformer.mixers.marked import GlobalLocal
from everyformer.registry import part
from everyformer.tokens import Tokens, order


@part("mixers")
class RoutedGlobal(GlobalLocal):
    """Global and local attention that marks the tokens of `chosen` segments itself, for each input anew (hypothesis D).

    The importance of a segment of `segment` tokens is a = sigmoid(w . gelu(W mean)). The choice is hard; log a - log a,
    of which the gradient passes the first alone, is added to the scores of its keys, so that the router learns whether
    they are worth seeing. Tokens that are `marked` already stay so.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        bias: bool = True,
        mask: Mask = Window(64, 64),  # noqa: B008
        segment: int = 32,
        chosen: int = 2,
        hidden: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, mask=mask, dropout=dropout)
        if segment < 1 or chosen < 0:
            raise ValueError(f"segment is at least 1 and chosen at least 0; given {segment} and {chosen}")
        self.segment, self.chosen = segment, chosen
        self.router = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """Queries, keys, values, and what the router reads."""
        return torch.cat((self.qkv(tokens.values), tokens.values), -1)

    def local(self, projected: Float[Tensor, "B N E"]) -> Float[Tensor, "B N F"]:
        """All but what the router reads."""
        return projected[..., : sum(self.sizes)]

    whole = local

    def marks(
        self, projected: Float[Tensor, "B N E"], tokens: Tokens
    ) -> tuple[Bool[Tensor, "B N"] | None, Float[Tensor, "B N"] | None]:
        """The tokens of the chosen segments, and zeros that carry the gradient of their importance."""
        if not self.chosen:
            return tokens.marked, None
        importance, owner = self.importance(projected[..., sum(self.sizes) :], tokens.mask)
        count = min(self.chosen, importance.shape[1])
        taken = torch.zeros_like(importance, dtype=torch.bool)
        taken = taken.scatter(1, importance.detach().topk(count, 1).indices, True)
        marked = taken.gather(1, owner)
        gain = (importance - importance.detach()).nan_to_num(0.0).gather(1, owner)
        return marked if tokens.marked is None else marked | tokens.marked, gain

    def most(self, marked: Bool[Tensor, "B N"], tokens: Tokens) -> int:
        """The tokens of the chosen segments, and those marked besides."""
        if tokens.marked is None:
            return min(self.chosen * self.segment, marked.shape[1])
        return super().most(marked, tokens)

    def importance(
        self, values: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"] | None
    ) -> tuple[Float[Tensor, "B n"], Tensor]:
        """log a of each segment, -inf of those without tokens, and the segment of each token."""
        batch, count, width = values.shape
        place = torch.arange(count, device=values.device).expand(batch, -1) if mask is None else order(mask)
        real = values.new_ones(batch, count, 1) if mask is None else mask[..., None].to(values.dtype)
        owner, total = place // self.segment, -(-count // self.segment)
        index = owner[..., None]
        sums = values.new_zeros(batch, total, width).scatter_add(1, index.expand_as(values), values * real)
        sizes = values.new_zeros(batch, total, 1).scatter_add(1, index, real)
        logits = nn.functional.logsigmoid(self.router(sums / sizes.clamp(min=1)))
        return logits.masked_fill(sizes == 0, -torch.inf)[..., 0], owner
