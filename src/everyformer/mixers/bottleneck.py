"""Inverted bottlenecks: a map made wider, convolved channel by channel, gated by its mean, and made narrow again."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.grids import as_map, as_update, same
from everyformer.registry import part
from everyformer.tokens import Tokens


class Bottleneck(nn.Module):
    """MBConv (Sandler et al., 2018; Tan and Le, 2019) as MaxViT has it: as wide as `ratio` times what it gives, batch norm
    and an activation after the first two convolutions, and a gate per channel through `squeeze` of what it gives.

    `eps` is that of the norms.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        ratio: float,
        kernel: int,
        stride: int,
        squeeze: float,
        activation: str,
        eps: float,
    ) -> None:
        super().__init__()
        hidden, narrow = int(to * ratio), max(int(to * squeeze), 1)
        self.stride, self.kernel = stride, kernel
        self.up = nn.Conv2d(width, hidden, 1, bias=False)
        self.conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(hidden, eps) for _ in range(2))
        self.squeeze, self.excite = nn.Conv2d(hidden, narrow, 1), nn.Conv2d(narrow, hidden, 1)
        self.down = nn.Conv2d(hidden, to, 1)
        self.activation = activation_named(activation)

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The map, on the coarser grid where the stride is not 1."""
        hidden = self.activation(self.norms[0](self.up(cells)))
        hidden = self.conv(same(hidden, self.kernel, self.stride))
        hidden = self.activation(self.norms[1](hidden))
        gate = self.excite(nn.functional.silu(self.squeeze(hidden.mean((2, 3), keepdim=True))))
        return self.down(hidden * gate.sigmoid())


@part("mixers")
class InvertedBottleneck(Mixer):
    """MBConv with squeeze and excitation on one grid; leading tokens get no update (Tu et al., MaxViT, 2022, section 3.3)."""

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        squeeze: float = 0.25,
        activation: str = "gelu",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.inner = Bottleneck(
            width, width, ratio=ratio, kernel=kernel, stride=1, squeeze=squeeze, activation=activation, eps=eps
        )

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each cell."""
        return as_update(tokens, self.inner(as_map(tokens)))
