"""Pyramids: bodies in stages, each on a coarser grid and mostly wider than the one before."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from everyformer.backbones.blocks import Block
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone, Norm, Position, Transition, normalise
from everyformer.embeddings.finish import lead
from everyformer.errors import DoesNotFit
from everyformer.masks import Full, Mask
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Stage(Encoder):
    """One stage of a pyramid: `enter` takes the tokens to its grid and to the width `to`, then come blocks and a norm.

    `places` adds positions after `enter`; `first` learned tokens are then put in front. The rest is as in `Encoder`.
    """

    def __init__(
        self,
        width: int,
        *,
        to: int | None = None,
        enter: Spec[Transition] | None = None,
        places: Spec[Position] | None = None,
        first: int = 0,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),) * 2,
        norm: Spec[Norm] | None = None,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
    ) -> None:
        inner = width if to is None else to
        super().__init__(inner, blocks=blocks, norm=norm, positions=positions, mask=mask)
        if enter is None and inner != width:
            raise DoesNotFit(f"tokens of width {width} become {inner} wide only through a transition; give enter=...")
        self.enter = self.make("enter", enter, width, inner)
        self.places: Position | None = self.make("places", places, inner, 1)
        if self.places is not None:
            self.places.stands_in("embedding")
        self.first = nn.Parameter(torch.randn(first, inner) * 0.02) if first else None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the stage."""
        context = context or Context()
        if self.enter is not None:
            tokens = self.enter(tokens, context)
        added = None if self.places is None else self.places(tokens)
        if added is not None:
            tokens = tokens.update(tokens.values + F.pad(added, (0, 0, tokens.prefix, 0)))
        if self.first is not None:
            tokens = lead(tokens, self.first)
        return super().forward(tokens, context)


@part("backbones")
class RememberingStage(Stage):
    """A stage whose blocks may look back at what entered it, as the memory `fine` of the context; where a token may not see
    all there is no such memory.
    """

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the stage."""
        context = context or Context()
        if context.mask == Full():
            context = context.replace(memory={**context.memory, "fine": tokens})
        return super().forward(tokens, context)


@part("backbones")
class Pyramid(Backbone):
    """Stages one after the other, each at the width that the one before gives, and a last norm."""

    def __init__(
        self,
        width: int,
        *,
        stages: tuple[Spec[Backbone], ...] = (spec(Stage),) * 2,
        norm: Spec[Norm] | None = None,
    ) -> None:
        super().__init__()
        self.stages = self.chain("stages", stages, width)
        self.norm = self.make("norm", norm, self.gives)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after all stages."""
        context = context or Context()
        inside = context.replace(levels=None)
        for stage in self.stages:
            tokens = stage(tokens, inside)
            if context.levels is not None:
                context.levels[stage] = tokens
        return tokens if self.norm is None else tokens.update(normalise(self.norm, tokens))
