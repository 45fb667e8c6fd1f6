"""Positions that tokens bring along as vectors."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from everyformer.contracts import Position
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("positions")
class Carried(Position):
    """Where tokens stand as they say it themselves, a vector each, such as the learned places of queries (Carion et al.,
    DETR, 2020, section 3.2); a vector shorter than the width goes on with zeros.
    """

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.width = width

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The place of every token."""
        places = tokens.places[:, tokens.prefix :]
        lacking = self.width - places.shape[-1]
        if lacking < 0:
            raise BadInput(
                f"tokens of width {self.width} have places of {places.shape[-1]} numbers each, which cannot be added; "
                "give places that are no wider"
            )
        return F.pad(places.to(tokens.values.dtype), (0, lacking))
