"""Attention within each of several passages, which some tokens of every passage connect."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.mixers.attention import Attention
from everyformer.mixers.lowering import Lowered
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class FusedAttention(Attention):
    """The rows of the grid are passages; the first `shared` tokens of each see all tokens of all passages, the others those of
    their own and all shared ones (Kedia et al., FiE, 2022).

    One softmax and one set of maps for all, those of the plain layer; with nothing shared each passage is attended to alone. P
    passages of L tokens and G shared ones cost PL (L + PG) + PG P (L + G) scores.
    """

    capabilities = frozenset({"grid", "padding", "ordered"})

    def __init__(
        self, width: int, *, heads: int = 8, shared: int = 10, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, dropout=dropout)
        if shared < 0:
            raise ValueError(f"shared is at least 0; given {shared}")
        self.shared = shared

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from its passage and from what is shared."""
        context, grid = context or Context(), tokens.grid
        if grid is None or len(grid) != 2 or tokens.prefix or grid[1] < self.shared:
            raise BadInput(
                f"expected passages that fill a grid, one a row, each with {self.shared} shared tokens in front; given grid={grid} "
                f"behind {tokens.prefix} leading tokens; take embeddings.Passages(shared={self.shared})"
            )
        if context.cache is not None:
            raise BadInput("shared tokens see all others; generate without a cache")
        query, key, value = (x.unflatten(2, grid) for x in self.operands(self.project(tokens)))
        real = None if tokens.mask is None else tokens.mask.unflatten(1, grid)
        mixed = self._within(query, key, value, real, context)
        if self.shared:
            every = self._over(query[:, :, :, : self.shared].flatten(2, 3), key, value, real, context)
            mixed = torch.cat((every.unflatten(2, (grid[0], self.shared)).transpose(1, 2), mixed), 3)
        return self.output(mixed.transpose(2, 3).flatten(3).flatten(1, 2))

    def _within(
        self,
        query: Float[Tensor, "B H P C K"],
        key: Float[Tensor, "B H P C K"],
        value: Float[Tensor, "B H P C K"],
        real: Bool[Tensor, "B P C"] | None,
        context: Context,
    ) -> Float[Tensor, "B P H L K"]:
        """What tokens that are not shared take from their passage, and from all that are."""
        passages = query.shape[2]

        def seen(x: Shaped[Tensor, "B h P C k"]) -> Shaped[Tensor, "BP h M k"]:
            shared, own = x.split((self.shared, x.shape[3] - self.shared), 3)
            every = shared.flatten(2, 3)[:, None].expand(-1, passages, -1, -1, -1)
            return torch.cat((every, own.transpose(1, 2)), 3).flatten(0, 1)

        allowed = None if real is None else seen(real[:, None, ..., None])[..., 0][:, :, None]
        own = query[:, :, :, self.shared :].transpose(1, 2)
        mixed = self._attend(own.flatten(0, 1), seen(key), seen(value), Sight(Lowered(allowed=allowed)), context)
        return mixed.unflatten(0, own.shape[:2])

    def _over(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H P C K"],
        value: Float[Tensor, "B H P C K"],
        real: Bool[Tensor, "B P C"] | None,
        context: Context,
    ) -> Float[Tensor, "B H N K"]:
        """What shared tokens take from all."""
        allowed = None if real is None else real.flatten(1)[:, None, None]
        return self._attend(query, key.flatten(2, 3), value.flatten(2, 3), Sight(Lowered(allowed=allowed)), context)
