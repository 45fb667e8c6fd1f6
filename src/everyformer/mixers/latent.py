"""Attention whose keys and values are all made of one small latent vector a token, which alone is cached."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, Position
from everyformer.mixers.attend import Taps, attend
from everyformer.mixers.attended import Attended
from everyformer.mixers.lowering import Lowered, lower
from everyformer.mixers.shapes import line, merge, split
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("mixers")
class LatentAttention(Mixer):
    """Multi-head latent attention (DeepSeek-V2, 2024, section 2.1 and equations 9 to 19).

    Keys and values are linear in a latent of `rank` numbers; a key of `turned` channels, shared by the heads, carries
    `positions` beside it. Queries pass a latent of `query_rank` where that is given. With a cache only latents and turned
    keys are kept, and the maps out of the latent are absorbed into queries and answers: one key head of width `rank`.
    """

    capabilities = frozenset({"causal", "masked", "padding", "incremental", "attended"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        rank: int = 64,
        query_rank: int | None = None,
        head_width: int = 32,
        value_width: int | None = None,
        turned: int = 16,
        positions: Spec[Position] | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.sizes, self.latents = (head_width, turned), (rank, turned)
        self.scale = (head_width + turned) ** -0.5
        queries = heads * (head_width + turned)
        self.query_latent = None
        if query_rank is not None:
            self.query_latent = nn.Sequential(nn.Linear(width, query_rank, bias=bias), nn.RMSNorm(query_rank, eps=eps))
        self.query = nn.Linear(query_rank or width, queries, bias=False)
        self.latent = nn.Linear(width, rank + turned, bias=bias)
        self.norm = nn.RMSNorm(rank, eps=eps)
        self.value_width = value_width or head_width
        self.key_value = nn.Linear(rank, heads * (head_width + self.value_width), bias=False)
        self.output = nn.Linear(heads * self.value_width, width, bias=bias)
        self.positions: Position | None = self.make("positions", positions, turned, 1)
        self.taps = Taps(self)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those that it may see."""
        context = (context or Context()).layer(self)
        x = tokens.values if self.query_latent is None else self.query_latent(tokens.values)
        query, query_turned = split(self.query(x), self.heads).split(self.sizes, -1)
        latent, turned = self.latent(tokens.values)[:, None].split(self.latents, -1)
        latent = self.norm(latent)
        if self.positions is not None:
            places = line(tokens, context)
            query_turned = self.positions.rotate(query_turned, places, context)
            turned = self.positions.rotate(turned, places, context)
        lowered = lower(context.mask, tokens, context)
        if context.cache is None:
            key, value = split(self.key_value(latent[:, 0]), self.heads).split((self.sizes[0], self.value_width), -1)
            key = torch.cat((key, turned.expand(-1, self.heads, -1, -1)), -1)
            return self.output(
                merge(self._attend(torch.cat((query, query_turned), -1), key, value, lowered, tokens, context))
            )
        kept = context.cache.extend(self, latent=latent, turned=turned)
        if self.positions is not None:
            context.cache.moves[self] = self._moved
        latent = kept["latent"]
        into, out = self.key_value.weight.unflatten(0, (self.heads, -1)).split((self.sizes[0], self.value_width), 1)
        query = torch.cat((query @ into, query_turned), -1)
        seen = self._attend(query, torch.cat((latent, kept["turned"]), -1), latent, lowered, tokens, context)
        return self.output(merge(seen @ out.mT))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, lowered: Lowered, tokens: Tokens, context: Context
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        attended = Attended(query, key, lowered, self.scale, lambda: None, tokens)
        context.show(attended)
        answer = attend(query, key, value, lowered=lowered, scale=self.scale, dropout=dropout, taps=self.taps)
        if context.cache is not None and context.cache.looks:
            context.cache.advance(tokens, attended)
        return answer

    def _moved(self, kept: dict[str, Tensor], by: Tensor) -> dict[str, Tensor]:
        """What is kept of tokens that now stand `by` places later."""
        assert self.positions is not None
        return {"turned": self.positions.rotate(kept["turned"], by[..., None], Context())}
