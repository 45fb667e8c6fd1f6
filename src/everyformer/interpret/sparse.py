"""Sparse features: directions of a layer that fire seldom, learnt without labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.registry import Part, part


@part("interpret")
class SparseAutoencoder(Part):
    """A layer's values as a sum of few learnt directions: the `active` strongest of `features` (Gao et al., 2024).

    f = TopK(W_e (x - b)), x' = W_d f + b, the columns of W_d of length 1.
    """

    def __init__(self, width: int, *, features: int = 512, active: int = 16) -> None:
        super().__init__()
        if not 1 <= active <= features:
            raise ValueError(f"active features are 1 to features ({features}); given {active}")
        self.active = active
        self.encode_map = nn.Linear(width, features)
        self.decode_map = nn.Linear(features, width)
        with torch.no_grad():
            self.decode_map.weight.copy_(F.normalize(self.encode_map.weight.mT, dim=0))
            self.encode_map.weight.copy_(self.decode_map.weight.mT)
            self.encode_map.bias.zero_()
            self.decode_map.bias.zero_()

    def encode(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... F"]:
        """The features that fire."""
        raw = self.encode_map(values - self.decode_map.bias).relu()
        strongest = raw.topk(self.active, -1)
        return torch.zeros_like(raw).scatter(-1, strongest.indices, strongest.values)

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """The values put together again."""
        return self.decode_map(self.encode(values))

    def fit(
        self, values: Float[Tensor, "B D"], *, steps: int = 1000, batch: int = 256, lr: float = 1e-3, seed: int = 0
    ) -> float:
        """Learn to put `values` together again; gives the share of their variance that is left unexplained."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.decode_map.bias.copy_(values.mean(0))
        optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        for _ in range(steps):
            chosen = values[torch.randint(len(values), (batch,), generator=generator)]
            loss = (self(chosen) - chosen).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                self.decode_map.weight.copy_(F.normalize(self.decode_map.weight, dim=0))
        with torch.no_grad():
            return float((self(values) - values).square().sum() / (values - values.mean(0)).square().sum())
