"""Linear attention with relative positions: exponentiated biases are a Toeplitz matrix, which Fourier transforms apply."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.masks import Full
from everyformer.mixers.features import FeatureMap, PositiveFeatures
from everyformer.mixers.shapes import line, merge, share, split
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("mixers")
class ToeplitzAttention(Mixer):
    """f(q_i) sum_j e^{b_{j-i}} f(k_j) v_j^T / f(q_i) sum_j e^{b_{j-i}} f(k_j) (Luo et al., 2021, equation 9), in N log N.

    Queries and keys first get length 1 (NPRF, equation 7) times K^(1/4), which the features divide by. b is learned for
    each head and distance below `length`.
    """

    capabilities = frozenset({"causal", "ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        length: int = 4096,
        features: Spec[FeatureMap] = spec(PositiveFeatures, features=64),  # noqa: B008
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.length = heads, length
        self.key_width = share("width", width, heads)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.features: FeatureMap = self.make("features", features, self.key_width, heads)
        self.distances = nn.Parameter(torch.zeros(heads, 2 * length - 1))
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The mean of the values that each token sees, weighted by features and by distance."""
        context, count = context or Context(), tokens.count
        if count > self.length:
            raise BadInput(
                f"{count} tokens, and ToeplitzAttention was built for {self.length}; build with a larger length"
            )
        query, key, value = (split(x, self.heads) for x in self.qkv(tokens.values).chunk(3, -1))
        query, key = (F.normalize(x, dim=-1) * self.key_width**0.25 for x in (query, key))
        query, key = self.features(query, key, line(tokens, context))
        counted = torch.cat((value, torch.ones_like(value[..., :1])), -1).to(key.dtype)
        written = (key[..., None] * counted[..., None, :]).flatten(-2)
        spread = toeplitz(self.weights(count, not isinstance(context.mask, Full)), written)
        summed = torch.einsum("bhnf,bhnfv->bhnv", query, spread.unflatten(-1, (key.shape[-1], -1)))
        return self.output(merge((summed[..., :-1] / summed[..., -1:]).to(value.dtype)))

    def weights(self, count: int, causal: bool) -> Float[Tensor, "H M"]:
        """e^b for the distances -(N - 1) to N - 1 of the key from the query; none ahead where causal."""
        chosen = self.distances[:, self.length - count : self.length - 1 + count]
        if causal:
            ahead = torch.arange(2 * count - 1, device=chosen.device) >= count
            chosen = chosen.masked_fill(ahead, float("-inf"))
        return (chosen - chosen.amax(-1, keepdim=True)).exp()


def toeplitz(weights: Float[Tensor, "H M"], x: Float[Tensor, "B H N E"]) -> Float[Tensor, "B H N E"]:
    """sum_j w_{j-i} x_j, w given for the distances -(N - 1) to N - 1, by Fourier transforms of length 2N."""
    count = x.shape[2]
    ring = torch.cat((weights[:, :count].flip(-1), weights[:, :1] * 0, weights[:, count:].flip(-1)), -1)
    spectrum = torch.fft.rfft(ring.to(x.dtype))[None, :, :, None] * torch.fft.rfft(x, n=2 * count, dim=2)
    return torch.fft.irfft(spectrum, n=2 * count, dim=2)[:, :, :count]
