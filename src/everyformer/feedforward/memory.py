"""A linear map replaced by tables that are looked up."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Projection
from everyformer.registry import part


@part("feedforward")
class MemoryLayer(Projection):
    """The signs of each piece of `bits` values address a row of its table; the rows add up (Ding et al., MemoryFormer, 2024).

    sum_k p(z_k) T_k[sign(z_k)], p the softmax over all sign vectors s of z_k s / temperature (equations 4 to 7), which is
    a product of sigmoids. Tables start at 0.02, as in the authors' code: a row that few
    tokens have addressed should say little.
    """

    places: Tensor
    starts: Tensor

    def __init__(self, inputs: int, outputs: int, *, bits: int = 8, temperature: float = 1.0) -> None:
        super().__init__()
        if inputs % bits:
            raise ValueError(f"{inputs} values do not fall into pieces of {bits}; choose a divisor for bits")
        self.bits, self.temperature = bits, temperature
        pieces = inputs // bits
        self.table = nn.Parameter(torch.randn(pieces * 2**bits, outputs) * 0.02)
        self.register_buffer("places", 2 ** torch.arange(bits), persistent=False)
        self.register_buffer("starts", torch.arange(pieces) * 2**bits, persistent=False)

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The sum of the rows addressed, each weighted by how sure its address is."""
        pieces = values.unflatten(-1, (-1, self.bits))
        rows = ((pieces >= 0) * self.places).sum(-1) + self.starts
        sure = (2 * pieces.abs() / self.temperature).sigmoid().prod(-1)
        found = F.embedding_bag(rows.flatten(0, -2), self.table, per_sample_weights=sure.flatten(0, -2), mode="sum")
        return found.view(*values.shape[:-1], -1)
