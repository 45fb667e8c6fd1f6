"""Mixers of neighbouring cells of a map: convolution of each channel alone, pooling, and what is built around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import FeedForward, Mixer, Norm, mix
from everyformer.dropout import Dropout
from everyformer.grids import as_map, as_update
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class Depthwise(Mixer):
    """A convolution of each channel alone; leading tokens get no update.

    In a block of its own, without norm, it is the conditional position encoding of Chu et al. (CPVT, 2021, section 3.2).
    `padding` is 'zeros' or 'circular'; an `activation` may stand behind it.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self, width: int, *, kernel: int = 3, bias: bool = True, padding: str = "zeros", activation: str = "linear"
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a kernel has an odd side, so that each cell stands in its middle; given {kernel}")
        self.conv = nn.Conv2d(
            width, width, kernel, padding=kernel // 2, groups=width, bias=bias, padding_mode=padding
        )  # fmt: skip
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The convolution of the map."""
        return as_update(tokens, self.activation(self.conv(as_map(tokens))))


@part("mixers")
class Pooling(Mixer):
    """The mean of the neighbourhood less the cell itself (Yu et al., PoolFormer, 2022, equation 4); no parameters.

    At the border the mean is over the cells that there are.
    """

    capabilities = frozenset({"grid"})

    def __init__(self, width: int, *, size: int = 3) -> None:
        super().__init__()
        self.size = size

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """Pooled minus the cell."""
        cells = as_map(tokens)
        pooled = F.avg_pool2d(cells, self.size, 1, self.size // 2, count_include_pad=False)
        return as_update(tokens, pooled - cells)


@part("mixers")
class Chain(Mixer):
    """feedforward(norm(mixer(x))) under one residual (Liu et al., ConvNeXt, 2022, figure 4)."""

    capabilities = frozenset({"grid"})

    def __init__(
        self, width: int, *, mixer: Spec[Mixer], feedforward: Spec[FeedForward], norm: Spec[Norm] | None = None
    ) -> None:
        super().__init__()
        self.mixer: Mixer = self.make("mixer", mixer, width)
        self.norm = self.make("norm", norm, width)
        self.feedforward: FeedForward = self.make("feedforward", feedforward, width)
        self.capabilities = self.mixer.capabilities & {"causal", "masked", "padding", "packed", "grid", "ordered"}

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The three after each other."""
        context = context or Context()
        mixed = mix(self.mixer, tokens, context)
        return self.feedforward(tokens.update(mixed if self.norm is None else self.norm(mixed)), context)


@part("mixers")
class ConvMLP(Mixer):
    """W2 act(conv(W1 x)), the convolution of each hidden channel alone (Xie et al., SegFormer, 2021, equation 3).

    It stands in the place of a feedforward. Leading tokens pass it without the convolution. `before` is an activation
    between the first map and the convolution.
    """

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        ratio: float = 4.0,
        kernel: int = 3,
        activation: str = "gelu",
        before: str | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = int(width * ratio) if hidden is None else hidden
        self.up = nn.Linear(width, hidden, bias=bias)
        self.conv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.activation = activation_named(activation)
        self.before = None if before is None else activation_named(before)
        self.dropout = Dropout(dropout) if dropout else None

    def near(self, cells: Float[Tensor, "B E Y X"]) -> Float[Tensor, "B E Y X"]:
        """The hidden map with its neighbours seen."""
        return self.conv(cells)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token, its neighbours seen."""
        hidden = self.up(tokens.values)
        hidden = hidden if self.before is None else self.before(hidden)
        mixed = self.near(as_map(tokens.update(hidden))).flatten(2).mT
        if tokens.prefix:
            mixed = torch.cat((hidden[:, : tokens.prefix], mixed), 1)
        mixed = self.activation(mixed)
        return self.down(mixed if self.dropout is None else self.dropout(mixed))


@part("mixers")
class AddingConvMLP(ConvMLP):
    """W2 (h + conv(h)) with h = act(W1 x): the convolution adds to the hidden map (Fan et al., RMT, 2024, official code).

    `activation` stands behind the sum, `before` in front of it.
    """

    def near(self, cells: Float[Tensor, "B E Y X"]) -> Float[Tensor, "B E Y X"]:
        """The hidden map and its convolution."""
        return cells + self.conv(cells)
