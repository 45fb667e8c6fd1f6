"""Attention of the few queries that prefer some keys to others."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.dropout import dropout
from everyformer.masks import Causal, Full, Mask, hashed
from everyformer.mixers.attend import softmax
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class ProbSparse(Mixer):
    """The `factor` ln N queries with the most uneven scores attend; all others take the mean of the values (Zhou et al., 2021, 3.1).

    How uneven is max_j s_j - sum_j s_j / N over `factor` ln N keys, drawn for each query from `seed`. Under `mask`, which is
    all or causal, the others take the sum of the values up to their own place (official code). Which queries attend
    depends on all tokens, so that it stands in no causal place.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        factor: int = 5,
        mask: Mask = Full(),  # noqa: B008
        bias: bool = True,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor is at least 1; given {factor}")
        if mask not in (Full(), Causal()):
            raise ValueError(f"queries that do not attend know what to take of all or of all before; given {mask!r}")
        self.heads, self.factor, self.mask = heads, factor, mask
        self.scale = share("width", width, heads) ** -0.5
        self.dropout, self.seed = dropout, seed
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the others."""
        query, key, value = (split(x, self.heads) for x in self.qkv(tokens.values).chunk(3, -1))
        causal, count = isinstance(self.mask, Causal), tokens.count
        place = torch.arange(count, device=query.device)
        if self.plenty(count) >= count:
            chosen = place.expand(*query.shape[:2], -1)
        else:
            chosen = self.uneven(query, key).topk(self.plenty(count), -1)[1]
        index = chosen[..., None].expand(-1, -1, -1, query.shape[-1])
        scores = query.gather(2, index) @ key.mT * self.scale
        weights = softmax(scores, place <= chosen[..., None] if causal else None)
        mixed = (dropout(weights, self.dropout) if self.training else weights) @ value
        others = value.cumsum(2) if causal else value.mean(2, keepdim=True).expand_as(value)
        return self.output(merge(others.scatter(2, index, mixed)))

    def plenty(self, count: int) -> int:
        """How many queries attend, and to how many keys each is tried on."""
        return max(min(self.factor * math.ceil(math.log(count)), count), 1)

    def uneven(
        self, query: Float[Tensor, "B H N K"], key: Float[Tensor, "B H N K"], tried: Int[Tensor, "N U"] | None = None
    ) -> Float[Tensor, "B H N"]:
        """How far the largest score of each query is above the mean of them, by the keys that are `tried`."""
        count = query.shape[2]
        if tried is None:
            tried = self.tried(count).to(query.device)
        scores = torch.einsum("bhnk,bhnuk->bhnu", query.detach(), key.detach()[:, :, tried])
        return scores.amax(-1) - scores.sum(-1) / count

    def tried(self, count: int) -> Int[Tensor, "N U"]:
        """The keys that each query is tried on."""
        return hashed(torch.arange(count)[:, None], torch.arange(self.plenty(count)), self.seed) % count
