"""Attention whose projections are parts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Norm, Position, Projection
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class ProjectedAttention(Attention):
    """Attention whose queries, keys, values and output each come from a projection of their own (TokenFormer, MemoryFormer).

    `output_projection` is that of the output; without one the heads are handed on as they are.
    """

    def __init__(
        self,
        width: int,
        *,
        projection: Spec[Projection],
        output_projection: Spec[Projection] | None = None,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        positions: Spec[Position] | None = None,
        query_key_norm: Spec[Norm] | None = None,
        mask: Mask = Full(),  # noqa: B008
        scale: float | None = None,
        temperature: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, key_heads=key_heads, head_width=head_width, positions=positions,
            query_key_norm=query_key_norm, mask=mask, scale=scale, temperature=temperature, dropout=dropout,
        )  # fmt: skip
        del self.qkv, self.output
        self.projection: nn.ModuleList = nn.ModuleList(
            self.make("projection", projection, width, size) for size in self.sizes
        )
        self.output_projection: Projection | None = self.make(
            "output_projection", output_projection, self.sizes[0], width
        )

    def qkv(self, values: Float[Tensor, "B N D"]) -> Float[Tensor, "B N E"]:
        """Queries, keys and values, one beside the other."""
        return torch.cat([each(values) for each in self.projection], -1)

    def output(self, mixed: Float[Tensor, "B N E"]) -> Float[Tensor, "B N D"]:
        """What the heads took, as an update."""
        return mixed if self.output_projection is None else self.output_projection(mixed)
