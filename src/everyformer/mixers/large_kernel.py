"""A gate that sees a large neighbourhood by a small and a spread convolution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.grids import as_map, as_update
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class LargeKernel(Mixer):
    """W3 (g * W2 far(near(g))) with g = act(W1 x), where near and far are convolutions of each channel alone, the second with
    its taps `apart` cells from each other (Guo et al., Visual Attention Network, 2023, equations 1 and 2, figure 3).

    Together they see `kernel` + `apart` (`spread` - 1) cells a side. Leading tokens are not gated open by anything but a bias.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self, width: int, *, kernel: int = 5, spread: int = 7, apart: int = 3, activation: str = "gelu"
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or spread % 2 == 0:
            raise ValueError(
                f"kernels have odd sides, so that each cell stands in their middle; given {kernel}, {spread}"
            )
        self.enter = nn.Linear(width, width)
        self.near = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.far = nn.Conv2d(width, width, spread, padding=apart * (spread // 2), groups=width, dilation=apart)
        self.across = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The gated values."""
        inner = tokens.update(self.activation(self.enter(tokens.values)))
        seen = as_update(inner, self.far(self.near(as_map(inner))))
        return self.output(self.across(seen) * inner.values)
