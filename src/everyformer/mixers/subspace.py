"""Attention in which queries, keys and values are one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.registry import part
from everyformer.specs import Spec


@part("mixers")
class SubspaceAttention(Attention):
    """Each head projects the tokens to a subspace U and attends there with itself (Yu et al., CRATE, 2023, equation 11).

    W [U^T Z softmax((U^T Z)^T U^T Z / sqrt(K))], a step that compresses the tokens towards the subspaces; W stands for
    the U of the paper, as in its code.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        output_bias: bool = True,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        scale: float | None = None,
        temperature: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, head_width=head_width, output_bias=output_bias, positions=positions, mask=mask,
            scale=scale, temperature=temperature, dropout=dropout,
        )  # fmt: skip
        del self.qkv
        self.subspace = nn.Linear(width, self.sizes[0], bias=False)

    def qkv(self, values: Float[Tensor, "B N D"]) -> Float[Tensor, "B N E"]:
        """The projection, for queries, keys and values."""
        return self.subspace(values).repeat(1, 1, 3)
