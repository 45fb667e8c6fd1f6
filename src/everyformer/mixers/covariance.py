"""Attention between channels, and what lets neighbouring cells talk beside it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.grids import as_map, as_update
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class CrossCovariance(Mixer):
    """V softmax(K^T Q / tau) with every column of K and Q of length 1: the channels of a head attend to each other
    (El-Nouby et al., XCiT, 2021, equation 2). The time is linear in the number of tokens.

    `temperature` is 1 / tau, learned for each head.
    """

    capabilities = frozenset({"padding", "weights"})

    def __init__(self, width: int, *, heads: int = 8, bias: bool = True, output_bias: bool = True) -> None:
        super().__init__()
        share("width", width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.temperature = nn.Parameter(torch.ones(heads))
        self.output = nn.Linear(width, width, bias=output_bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """Each token's channels mixed by how alike they are over all tokens."""
        query, key, value = (split(x, self.heads).mT for x in self.qkv(tokens.values).chunk(3, -1))
        mass = self._mass(tokens)
        if mass is not None:
            query, key = query * mass, key * mass
        query = F.normalize(query, dim=-1) * self.temperature[:, None, None]
        mixed = F.scaled_dot_product_attention(query, F.normalize(key, dim=-1), value, scale=1.0)
        return self.output(merge(mixed.mT))

    def _mass(self, tokens: Tokens) -> Float[Tensor, "B 1 1 N"] | None:
        """The root of how often each token counts; a sum of products then counts it as often."""
        mass = None if tokens.weights is None else tokens.weights.sqrt()
        if tokens.mask is not None:
            mass = tokens.mask.to(tokens.values.dtype) if mass is None else mass * tokens.mask
        return None if mass is None else mass[:, None, None]


@part("mixers")
class LocalInteraction(Mixer):
    """Two convolutions of each channel alone, an activation and batch norm between them (El-Nouby et al., XCiT, 2021, 3.3).

    Leading tokens get no update.
    """

    capabilities = frozenset({"grid"})

    def __init__(self, width: int, *, kernel: int = 3, activation: str = "gelu") -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a kernel has an odd side, so that each cell stands in its middle; given {kernel}")
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width) for _ in range(2)
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each cell from its neighbours."""
        hidden = self.norm(self.activation(self.convs[0](as_map(tokens))))
        return as_update(tokens, self.convs[1](hidden))
