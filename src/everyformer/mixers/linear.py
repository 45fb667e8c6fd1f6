"""Linear attention: weights that are products of features, so that keys and values can be summed before queries come."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.masks import Full
from everyformer.mixers.features import EluFeatures, FeatureMap
from everyformer.mixers.scan import gather, keep, recall, remember
from everyformer.mixers.shapes import line, merge, share, split
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("mixers")
class LinearAttention(Mixer):
    """f(q_i) sum_j f(k_j) v_j^T / f(q_i) sum_j f(k_j), over all tokens or those up to i (Katharopoulos et al., 2020, eq. 5, 9).

    The time is linear in the number of tokens; with a cache the state of a head is one matrix, however many came before.
    """

    capabilities = frozenset({"causal", "padding", "incremental", "weights"})

    def __init__(
        self, width: int, *, heads: int = 8, features: Spec[FeatureMap] = spec(EluFeatures), bias: bool = True  # noqa: B008
    ) -> None:  # fmt: skip
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.features: FeatureMap = self.make("features", features, share("width", width, heads), heads)
        self.output = nn.Linear(width, width, bias=bias)
        self.capabilities = self.capabilities | self.features.capabilities

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The mean of the values that each token sees, weighted by the products of features."""
        context = context or Context()
        query, key, value = self.operands(tokens, context)
        return self.output(merge(average(self, query, key, value, tokens, context)))

    def operands(self, tokens: Tokens, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """The features of queries and of keys, (B, H, N, F), and the values."""
        query, key, value = (split(x, self.heads) for x in self.qkv(tokens.values).chunk(3, -1))
        query, key = self.features(query, key, line(tokens, context))
        return query, key, value


def average(
    owner: nn.Module,
    query: Float[Tensor, "B H N F"],
    key: Float[Tensor, "B H N F"],
    value: Float[Tensor, "B H N V"],
    tokens: Tokens,
    context: Context,
) -> Float[Tensor, "B H N V"]:
    """The mean of values weighted by products of features: the normaliser is one more value, always 1."""
    counted = torch.cat((value, torch.ones_like(value[..., :1])), -1).to(key.dtype)
    if tokens.weights is not None:
        key = key * tokens.weights[:, None, :, None]
    if isinstance(context.mask, Full):
        if tokens.mask is not None:
            key = key * tokens.mask[:, None, :, None]
        summed, state = gather(query, key, counted, recall(owner, context, "state"))
        keep(owner, context, state=state)
    else:
        summed = remember(owner, query, key, counted, tokens, context)
    total = summed[..., -1:]
    return (summed[..., :-1] / total.where(total != 0, 1.0)).to(value.dtype)
