"""Universal inverted bottlenecks: a map made wide and narrow again, with convolutions of each channel alone where one likes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Transition
from everyformer.grids import as_map, as_tokens
from everyformer.registry import part
from everyformer.tokens import Tokens


def rounded(channels: float) -> int:
    """The multiple of 8 nearest to it, the next one where that would be less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


@part("backbones")
class UniversalBottlenecks(Transition):
    """`depth` blocks, the first of which has the `stride`: a depthwise convolution of side `start`, a linear map to `ratio`
    times the width, a depthwise convolution of side `middle`, a gate of each channel through `squeeze` of the width, and a
    linear map (Qin et al., MobileNetV4, 2024, section 3; the gate of Hu et al., 2018).

    A side or a `squeeze` of 0 leaves that out; the wide map is rounded to a multiple of 8, the update times a factor for
    each channel that begins at `scale`. What does not change its shape passes around.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        depth: int = 2,
        stride: int = 1,
        ratio: float = 4.0,
        start: int = 0,
        middle: int = 3,
        squeeze: float = 0.0,
        scale: float = 1e-5,
    ) -> None:
        super().__init__()
        if stride > 1 and not start and not middle:
            raise ValueError(
                f"a block without convolutions has no stride; give start or middle a side, or not stride={stride}"
            )
        self.blocks = nn.ModuleList(
            _Universal(to if i else width, to, 1 if i else stride, ratio, start, middle, squeeze, scale)
            for i in range(depth)
        )

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        cells = as_map(tokens)
        for block in self.blocks:
            cells = block(cells)
        return as_tokens(cells)


class _Universal(nn.Module):
    """One block."""

    def __init__(
        self, width: int, to: int, stride: int, ratio: float, start: int, middle: int, squeeze: float, scale: float
    ) -> None:
        super().__init__()
        hidden = rounded(width * ratio)
        self.around = stride == 1 and width == to
        self.start = _depthwise(width, start, 1 if middle else stride) if start else nn.Identity()
        self.up = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.middle = nn.Sequential(_depthwise(hidden, middle, stride), nn.ReLU()) if middle else nn.Identity()
        self.gate = _Gate(hidden, rounded(hidden * squeeze)) if squeeze else nn.Identity()
        self.down = nn.Sequential(nn.Conv2d(hidden, to, 1, bias=False), nn.BatchNorm2d(to))
        self.scale = nn.Parameter(torch.full((to,), scale))

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The map after the block."""
        made = self.down(self.gate(self.middle(self.up(self.start(cells))))) * self.scale[:, None, None]
        return cells + made if self.around else made


class _Gate(nn.Module):
    """x times sigmoid(W2 ReLU(W1 mean(x)))."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, narrow, 1), nn.Conv2d(narrow, width, 1)

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D Y X"]:
        """The gated map."""
        return cells * self.excite(self.squeeze(cells.mean((2, 3), keepdim=True)).relu()).sigmoid()


def _depthwise(width: int, kernel: int, stride: int) -> nn.Sequential:
    """BatchNorm(conv(x)), each channel alone."""
    conv = nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))
