"""Attention whose queries and keys, but not values, are made of tokens with their positions added."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.mixers.attention import Attention, CrossAttention
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


def placed(tokens: Tokens, places: Position | None) -> Float[Tensor, "B N D"]:
    """The values with the positions added, where there are any; leading tokens have none."""
    added = None if places is None else places(tokens)
    return tokens.values if added is None else tokens.values + F.pad(added, (0, 0, tokens.prefix, 0))


@part("mixers")
class PlacedAttention(Attention):
    """q and k of x + p, v of x, in every layer anew (Carion et al., DETR, 2020, section A.4); `places` gives p."""

    capabilities = (Attention.capabilities - {"packed", "incremental", "attended", "weights"}) | {"ordered"}

    def __init__(
        self,
        width: int,
        *,
        places: Spec[Position],
        heads: int = 8,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, bias=bias, dropout=dropout)
        del self.qkv
        self.query_key = nn.Linear(width, 2 * width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.places: Position = self.make("places", places, width, heads)
        self.places.stands_in("embedding")

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """Queries, keys and values of all heads."""
        return torch.cat((self.query_key(placed(tokens, self.places)), self.value(tokens.values)), -1)


@part("mixers")
class PlacedCrossAttention(CrossAttention):
    """q of x + p, k of m + r, v of m, over a memory m (Carion et al., DETR, 2020, section A.4).

    `places` gives p, of the tokens, and `memory_places` r, of the memory; without it r is nothing.
    """

    capabilities = (CrossAttention.capabilities - {"incremental"}) | {"ordered"}

    def __init__(
        self,
        width: int,
        *,
        places: Spec[Position],
        memory_places: Spec[Position] | None,
        heads: int = 8,
        memory: str = "encoder",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, memory=memory, bias=bias, dropout=dropout)
        del self.key_value
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.places: Position = self.make("places", places, width, heads)
        self.memory_places: Position | None = self.make("memory_places", memory_places, width, heads)
        for each in (self.places, self.memory_places):
            if each is not None:
                each.stands_in("embedding")

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """The queries of all heads."""
        return self.query(placed(tokens, self.places))

    def keys_values(self, memory: Tokens) -> tuple[Float[Tensor, "B H M K"], Float[Tensor, "B H M K"]]:
        """The keys and the values of a memory."""
        key, value = self.key(placed(memory, self.memory_places)), self.value(memory.values)
        return self.split(key, self.heads), self.split(value, self.heads)
