"""Static expansion: the tokens spread over a fixed number of learned vectors, and gathered again."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class StaticExpansion(Mixer):
    """Tokens into learned vectors and back by normalised scores, once by their positive and once by their negative part
    (Hu et al., ExpansionNet v2, 2023, section 3.2 and official code).

    M = E K^T / sqrt(D); F = norm(relu(+-M)) V + B over the tokens; back by norm(relu(+-M^T)) F over the vectors of each of
    `lengths`, whose mean it is; a gate of each token weighs the two.
    """

    capabilities = frozenset({"padding"})

    def __init__(self, width: int, *, lengths: tuple[int, ...] = (16, 32, 64), eps: float = 1e-9) -> None:
        super().__init__()
        if not lengths or min(lengths) < 1:
            raise ValueError(f"lengths are how many vectors each group has, at least 1; given {lengths}")
        self.lengths, self.scale, self.eps = lengths, width**-0.5, eps
        self.query, self.shift = (nn.Embedding(sum(lengths), width) for _ in range(2))
        self.key, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.values = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token gathers of the learned vectors."""
        x = tokens.values
        index = torch.arange(sum(self.lengths), device=x.device)
        scores = self.query(index) @ self.key(x).mT * self.scale
        sides = [self._side(sign * scores, value(x), tokens, index) for sign, value in zip((1, -1), self.values)]
        gate = self.gate(x).sigmoid()
        return gate * sides[0] + (1 - gate) * sides[1]

    def _side(self, scores: Tensor, values: Tensor, tokens: Tokens, index: Tensor) -> Tensor:
        """Spread over the vectors and gathered again by scores (B, E, N)."""
        shares = F.relu(scores)
        if tokens.mask is not None:
            shares = shares * tokens.mask[:, None]
        expanded = self._normalised(shares) @ values + self.shift(index)
        back = [self._normalised(each) for each in F.relu(scores).mT.split(self.lengths, -1)]
        return torch.cat(back, -1) @ expanded / len(self.lengths)

    def _normalised(self, shares: Tensor) -> Tensor:
        return shares / (shares.sum(-1, keepdim=True) + self.eps)
