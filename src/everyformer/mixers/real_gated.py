"""Griffin's recurrence: a state of one number a channel, which two gates of the token keep and write."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.history import ShortConvolution
from everyformer.mixers.scan import remember
from everyformer.mixers.shapes import line, share
from everyformer.registry import part
from everyformer.tokens import Tokens

SHARPNESS = 8.0
"""c of equation 3."""
STEEPEST = 1000.0
"""The largest derivative of a square root, so that a channel that forgets nothing can be trained."""


class Gate(nn.Module):
    """sigmoid(W x + b) with a W of `blocks` square blocks along its diagonal."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        side = share("the hidden width", width, blocks)
        self.weight = nn.Parameter(torch.randn(blocks, side, side) * side**-0.5)
        self.bias = nn.Parameter(torch.zeros(blocks, side))

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """How far open the gate of each channel is."""
        blocks = x.unflatten(-1, self.bias.shape).movedim(-2, 0).flatten(1, 2)
        found = torch.baddbmm(self.bias[:, None], blocks, self.weight)
        return found.unflatten(1, x.shape[:2]).movedim(0, -2).flatten(-2).sigmoid()


@part("mixers")
class RealGatedRecurrence(Mixer):
    """act(W_y x) times an RG-LRU over a short convolution of W_x x (De et al., Griffin, 2024, sections 2.3 and 2.4, equations 1 to 4).

    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t u_t with a_t = e^{-8 softplus(rate) r_t}; the gates r and i of the channels u are made
    by `heads` blocks. The first token of a sequence is written whole. a_t starts, under open gates, between 0.9^8 and 0.999^8.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        heads: int = 8,
        kernel: int = 4,
        activation: str = "gelu_tanh",
    ) -> None:
        super().__init__()
        self.hidden, self.heads = hidden or width, heads
        self.project = nn.Linear(width, 2 * self.hidden)
        self.convolution = ShortConvolution(self.hidden, kernel, bias=True)
        self.enter, self.keep = Gate(self.hidden, heads), Gate(self.hidden, heads)
        kept = torch.empty(self.hidden).uniform_(0.9**2, 0.999**2).sqrt()
        self.rate = nn.Parameter((1 / kept - 1).log())
        self.output = nn.Linear(self.hidden, width)
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What the state holds after each token, under its gate."""
        context = context or Context()
        gate, given = self.project(tokens.values).chunk(2, -1)
        given = self.convolution(given, tokens, context)
        decay = -SHARPNESS * self.keep(given).float() * F.softplus(self.rate.float())
        first = line(tokens, context) == 0
        written = bounded_root(-torch.expm1(2 * decay)).where(~first, 1.0)
        value = (given * self.enter(given) * written.to(given.dtype)).mT[..., None]
        one = torch.ones_like(value)
        state = remember(self, one, one, value, tokens, context, decay=decay.mT[..., None])
        return self.output(self.activation(gate) * state[..., 0].mT)


def bounded_root(x: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """sqrt(x), its derivative at most `STEEPEST`."""
    fixed = x.detach()
    return fixed.sqrt() + (x - fixed) * (4 * fixed).clamp(min=STEEPEST**-2).rsqrt()
