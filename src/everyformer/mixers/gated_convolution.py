"""Recursive gated convolution."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.grids import as_map, as_update
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class GatedConvolution(Mixer):
    """Features multiplied `order` times by convolved ones, ever wider (Rao et al., HorNet, 2022, equations 3 to 5).

    The widths are D / 2^(order - 1), ..., D / 2, D. `scale` is that of what is convolved.
    """

    capabilities = frozenset({"grid"})

    def __init__(self, width: int, *, order: int = 3, kernel: int = 7, scale: float = 1 / 3) -> None:
        super().__init__()
        if order < 1 or width % 2 ** (order - 1):
            raise ValueError(f"width {width} cannot be halved {order - 1} times; give another order or width")
        if kernel % 2 == 0:
            raise ValueError(f"a kernel has an odd side, so that each cell stands in its middle; given {kernel}")
        self.widths = [width // 2**i for i in reversed(range(order))]
        self.scale = scale
        self.up = nn.Linear(width, 2 * width)
        self.conv = nn.Conv2d(
            sum(self.widths), sum(self.widths), kernel, padding=kernel // 2, groups=sum(self.widths)
        )  # fmt: skip
        self.maps = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(self.widths))
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The product of all gates; leading tokens get what gates of zero leave."""
        gated, convolved = self.up(tokens.values).split([self.widths[0], sum(self.widths)], -1)
        inner = tokens.update(convolved)
        first, *gates = (as_update(inner, self.conv(as_map(inner))) * self.scale).split(self.widths, -1)
        gated = gated * first
        for linear, gate in zip(self.maps, gates, strict=True):
            gated = linear(gated) * gate
        return self.output(gated)
