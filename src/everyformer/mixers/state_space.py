"""State-space duality: linear attention whose decay and strength of writing come from one step size."""

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
class StateSpace(Mixer):
    """S_t = e^{-e^A d_t} S_{t-1} + d_t B_t x_t^T, y_t = S_t^T C_t + D x_t (Dao and Gu, Mamba-2, 2024, section 7).

    d_t = softplus(step + bias) for each head; x, B and C pass a short convolution and silu; B and C, `state` wide, are
    shared by the heads of a group. The answer times silu(z) is normalised over each group.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        expand: int = 2,
        state: int = 128,
        groups: int = 1,
        kernel: int = 4,
        bias: bool = False,
        convolution_bias: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        inner = expand * width
        self.heads, self.groups = heads, groups
        self.value_width = share("the expanded width", inner, heads)
        share("heads", heads, groups)
        self.sizes, self.parts = (inner, inner + 2 * groups * state, heads), (inner, groups * state, groups * state)
        self.project = nn.Linear(width, sum(self.sizes), bias=bias)
        self.convolution = ShortConvolution(self.sizes[1], kernel, bias=convolution_bias)
        self.step_bias = nn.Parameter(step_bias(heads))
        self.rate = nn.Parameter(torch.arange(1.0, heads + 1).log())
        self.skip = nn.Parameter(torch.ones(heads))
        self.scale = nn.Parameter(torch.ones(inner))
        self.eps = eps
        self.output = nn.Linear(inner, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token reads from the state."""
        context = context or Context()
        gate, mixed, step = self.project(tokens.values).split(self.sizes, -1)
        mixed = F.silu(self.convolution(mixed, tokens, context)).split(self.parts, -1)
        value = split(mixed[0], self.heads)
        key, query = (split(x, self.groups).repeat_interleave(self.heads // self.groups, 1) for x in mixed[1:])
        step = F.softplus(step.float() + self.step_bias.float()).mT[..., None]
        decay = -self.rate.float().exp()[:, None, None] * step
        read = remember(self, query, key, value * step, tokens, context, decay=decay)
        read = merge(read + self.skip[:, None, None] * value) * F.silu(gate)
        grouped = read.unflatten(-1, (self.groups, -1))
        return self.output(F.rms_norm(grouped, grouped.shape[-1:], eps=self.eps).flatten(-2) * self.scale)
