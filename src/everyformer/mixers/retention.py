"""Retention: linear attention in which each head forgets at a rate of its own."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer, Position
from everyformer.mixers.scan import remember
from everyformer.mixers.shapes import line, merge, share, split
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class Retention(Mixer):
    """Gated multi-scale retention (Sun et al., RetNet, 2023, section 2.2, equations 5 to 8).

    o_t = sum_{j <= t} g^{t-j} (q_t k_j / sqrt(K)) v_j with g = 1 - 2^{-5-h} in head h, each head normalised, times
    silu(x W_G). Values are `expand` times as wide as the tokens; `positions` turns queries and keys (xPos's rotation;
    its decay is g).
    """

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        expand: int = 2,
        positions: Spec[Position] | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.heads, self.key_width = heads, share("width", width, heads)
        self.sizes = width, width, expand * width, expand * width
        self.project = nn.Linear(width, sum(self.sizes), bias=False)
        self.positions: Position | None = self.make("positions", positions, width, heads)
        self.decays = tuple(math.log1p(-(2.0 ** (-5 - h))) for h in range(heads))
        self.norm = nn.RMSNorm(expand * self.key_width, eps=eps, elementwise_affine=False)
        self.output = nn.Linear(expand * width, width, bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token retains of those up to itself."""
        context = context or Context()
        *mixed, gate = self.project(tokens.values).split(self.sizes, -1)
        query, key, value = (split(x, self.heads) for x in mixed)
        if self.positions is not None:
            places = line(tokens, context)
            query = self.positions.rotate(query, places, context)
            key = self.positions.rotate(key, places, context)
        decay = torch.tensor(self.decays, device=query.device)[None, :, None, None]
        kept = remember(self, query, key * self.key_width**-0.5, value, tokens, context, decay=decay)
        return self.output(F.silu(gate) * merge(self.norm(kept)))
