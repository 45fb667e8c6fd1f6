"""Attention beside which each head looks up a few states of a memory, as much as a gate lets in."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Position
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention
from everyformer.mixers.retrieved import retrieve
from everyformer.mixers.search import ExactSearch, Search
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, unpack
from everyformer.units import Units, at


@part("mixers")
class MemorizingAttention(Attention):
    """(1 - g) a + g r for each head, a attention and r what it retrieves, g = sigmoid(b) (Wu et al., Memorizing Transformers,
    2022, section 3.2).

    The same queries look at the `keep` best states of the memory, whose keys and values are never formed
    (`RetrievedAttention`). b begins at `gate`, nearly closed; a query that finds nothing, because the context holds no such
    memory or nothing of it is real, has a alone. `search` may be exchanged, as there.
    """

    capabilities = frozenset({"causal", "memory", "masked", "padding", "packed", "incremental", "weights"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        memory: str = "encoder",
        memory_width: int | None = None,
        keep: int = 32,
        gate: float = -4.0,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, head_width=head_width, bias=bias, output_bias=output_bias, positions=positions, mask=mask,
            dropout=dropout,
        )  # fmt: skip
        if keep < 1:
            raise ValueError(f"keep is at least 1; given {keep}")
        self.memory, self.keep = memory, keep
        self.search: Search = ExactSearch()
        self.key_value = nn.Linear(memory_width or width, 2 * heads * self.head_width, bias=bias)
        self.gate = nn.Parameter(torch.full((heads,), gate))

    def units(self) -> Units:
        """Its heads."""
        inner = self.heads * self.head_width
        units = self.head_units(qkv=self.sizes, key_value=(inner, inner))
        return Units(**{**vars(units), "places": {**units.places, "gate": (0, at(self.heads, self.heads))}})

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those that it may see, and from the memory."""
        if tokens.lengths is None:
            return super().forward(tokens, context)
        whole = unpack(tokens)
        return super().forward(whole, context)[whole.mask][None]

    def _mix(self, qkv: Tensor, tokens: Tokens, context: Context) -> Tensor:
        mixed = super()._mix(qkv, tokens, context)
        memory = context.memory.get(self.memory)
        if memory is None:
            return mixed
        memory = memory if memory.lengths is None else unpack(memory)
        query, _, _ = self.operands(qkv)
        remembered, found = retrieve(query * self.scale, self.key_value, memory, self.search, self.keep)
        share = (self.gate.sigmoid()[:, None] * found).transpose(1, 2)[..., None]
        heads = mixed.unflatten(-1, (self.heads, -1))
        return heads.lerp(remembered.transpose(1, 2), share.to(heads)).flatten(2)
