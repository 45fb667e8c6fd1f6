"""Delta rules: a state that is corrected by what it answered wrongly, instead of only added to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.history import ShortConvolution
from everyformer.mixers.scan import remember
from everyformer.mixers.shapes import merge, share, split
from everyformer.mixers.steps import step_bias
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class DeltaNet(Mixer):
    """S_t = S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T, b_t = sigmoid(x_t W_b) (Yang et al., DeltaNet, 2024, equation 7).

    Queries, keys and values pass a short convolution and silu; queries and keys have length 1 (section 3.3). The heads
    are `head_width` wide, a share of the width unless given, their values `expand` times that.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        head_width: int | None = None,
        expand: int = 1,
        kernel: int = 4,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.key_width = share("width", width, heads) if head_width is None else head_width
        keys, values = heads * self.key_width, heads * self.key_width * expand
        self.sizes = keys, keys, values
        self.qkv = nn.Linear(width, sum(self.sizes), bias=False)
        self.convolution = ShortConvolution(sum(self.sizes), kernel)
        self.strength = nn.Linear(width, heads, bias=False)
        self.norm = nn.RMSNorm(self.key_width * expand, eps=eps)
        self.output = nn.Linear(values, width, bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What the corrected state answers to each query."""
        return self.output(merge(self.norm(self.read(tokens, context or Context(), None))))

    def read(self, tokens: Tokens, context: Context, decay: Tensor | None) -> Float[Tensor, "B H N V"]:
        """The answers, heads apart, the state first decayed."""
        mixed = F.silu(self.convolution(self.qkv(tokens.values), tokens, context))
        query, key, value = (split(x, self.heads) for x in mixed.split(self.sizes, -1))
        query, key = unit(query) * self.key_width**-0.5, unit(key)
        strength = self.strength(tokens.values).sigmoid().mT[..., None]
        return remember(self, query, key, value, tokens, context, decay=decay, strength=strength)


@part("mixers")
class GatedDeltaNet(DeltaNet):
    """The delta rule on a state that first decays by e^{-e^A softplus(x_t W_a + c)} (Yang et al., 2025, equation 10).

    The answers, each head normalised, are multiplied with silu(x W_g).
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        head_width: int | None = None,
        expand: int = 1,
        kernel: int = 4,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(width, heads=heads, head_width=head_width, expand=expand, kernel=kernel, eps=eps)
        self.step = nn.Linear(width, heads, bias=False)
        self.step_bias = nn.Parameter(step_bias(heads))
        self.rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.gate = nn.Linear(width, self.sizes[-1], bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What the corrected and decaying state answers to each query."""
        step = F.softplus(self.step(tokens.values).float() + self.step_bias.float())
        decay = (-self.rate.float().exp() * step).mT[..., None]
        read = self.norm(self.read(tokens, context or Context(), decay))
        return self.output(merge(read) * F.silu(self.gate(tokens.values)))


def unit(x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H N K"]:
    """Vectors of length 1."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
