"""A body that may be left before its last block."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.backbones.blocks import Block
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context, rows_of
from everyformer.contracts import Backbone, Norm, Position, normalise
from everyformer.masks import Full, Mask
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class ChosenDepth(Encoder):
    """An encoder of which each sample runs through the first `least` blocks, and through as many more as a gate chooses by
    the mean of its cells, those of the coarsest level where there are several (Yao et al., ECO-M2F, 2024, section 3; their
    gate sees that level before it is projected).

    In training a pass ends after a block that is drawn, the k-th as often as its share of `chances`, by default of 1, 2, 3,
    ... The gate is not trained, but fitted afterwards by `compression.eco_m2f`: until then all blocks run, and in packed
    sequences always. `leave`, where set, is how many run instead.
    """

    incremental = False
    gate: Tensor
    bias: Tensor

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),) * 6,
        norm: Spec[Norm] | None = None,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        least: int = 2,
        chances: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__(width, blocks=blocks, norm=norm, positions=positions, mask=mask)
        if not 0 < least <= len(blocks):
            raise ValueError(f"least is 1 to {len(blocks)}, as many as there are blocks; given {least}")
        exits = len(blocks) - least + 1
        self.least, self.chances = least, tuple(range(1, exits + 1)) if chances is None else chances
        if len(self.chances) != exits or min(self.chances) < 0 or not sum(self.chances):
            raise ValueError(f"chances has a share for each of {exits} exits, none below 0; given {chances}")
        self.register_buffer("gate", torch.zeros(exits, width))
        self.register_buffer("bias", torch.arange(exits, dtype=torch.float))
        self.leave: int | None = None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after as many blocks as each sample has."""
        context = context or Context()
        inside = context.replace(mask=context.mask & self.mask, positions=self.positions, levels=None)
        depths = self.running(tokens, context)
        if tokens.values.is_meta or torch.compiler.is_compiling():
            values = self.whole(tokens, depths, inside)
        else:
            values = self.some(tokens, depths, inside)
        after = tokens.update(values)
        return after if self.norm is None else after.update(normalise(self.norm, after))

    def running(self, tokens: Tokens, context: Context) -> Int[Tensor, " B"]:
        """How many blocks each sample runs through."""
        if self.training:
            weights = torch.tensor(self.chances, dtype=torch.float)
            drawn = torch.multinomial(weights, 1, generator=context.generator)
            return (self.least + drawn).expand(tokens.batch).to(tokens.values.device)
        if self.leave is not None or tokens.lengths is not None:
            return torch.full((tokens.batch,), self.leave or len(self.blocks), device=tokens.values.device)
        return self.least + F.linear(self.looked(tokens, context), self.gate, self.bias).argmax(-1)

    def looked(self, tokens: Tokens, context: Context) -> Float[Tensor, "B D"]:
        """What the gate sees."""
        if context.grids is None:
            return tokens.mean(tokens.prefix)
        return tokens.values[:, tokens.prefix :][:, : math.prod(context.grids[0])].mean(1)

    def whole(self, tokens: Tokens, depths: Int[Tensor, " B"], context: Context) -> Tensor:
        """Every block for every sample, those that a sample has left behind changing nothing: no choice by value."""
        for i, block in enumerate(self.blocks):
            after = block(tokens, context).values
            tokens = tokens.update(torch.where((depths > i)[:, None, None], after, tokens.values))
        return tokens.values

    def some(self, tokens: Tokens, depths: Int[Tensor, " B"], context: Context) -> Tensor:
        """Each block for the samples that it still has: what is left is not worked."""
        rows, values = torch.arange(tokens.batch, device=depths.device), tokens.values
        for i, block in enumerate(self.blocks):
            stay = (depths[rows] > i).nonzero()[:, 0]
            if len(stay) < len(rows):
                rows, tokens = rows[stay], rows_of(tokens, stay)
                context = context.replace(lowered={})
                context.select(stay)
            if not len(rows):
                break
            tokens = block(tokens, context)
            values = tokens.values if len(rows) == len(values) else values.index_copy(0, rows, tokens.values)
        return values
