"""Linear attention that forgets each channel of its keys as the tokens say."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.scan import remember
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class GatedLinearAttention(Mixer):
    """S_t = diag(a_t) S_{t-1} + k_t v_t^T with a_t = sigmoid(x_t W_1 W_2 + b)^{1/slowness} (Yang et al., GLA, 2024, 4.4).

    Queries and keys are half as wide as the tokens; `rank` is that of W_1 W_2. Each head is normalised, then gated.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(
        self, width: int, *, heads: int = 4, rank: int = 16, slowness: float = 16.0, eps: float = 1e-5
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads, self.slowness = heads, slowness
        self.key_width = share("half the width", width // 2, heads)
        inner = heads * self.key_width
        self.sizes = inner, inner, width, width
        self.project = nn.Linear(width, sum(self.sizes), bias=False)
        self.forget = nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, inner))
        self.norm = nn.RMSNorm(share("width", width, heads), eps=eps)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token reads from the state that the tokens up to it have written and not forgotten."""
        context = context or Context()
        *mixed, gate = self.project(tokens.values).split(self.sizes, -1)
        query, key, value = (split(x, self.heads) for x in mixed)
        decay = split(F.logsigmoid(self.forget(tokens.values)), self.heads) / self.slowness
        read = remember(self, query * self.key_width**-0.5, key, value, tokens, context, decay=decay)
        return self.output(merge(self.norm(read)) * F.silu(gate))
