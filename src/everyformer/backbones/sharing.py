"""Bodies whose layers have some parts in common, and scales that work side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.backbones.pyramids import Stage
from everyformer.context import Context
from everyformer.contracts import Backbone, FeedForward, Mixer, Norm, Position, Transition, mix
from everyformer.errors import DoesNotFit
from everyformer.feedforward import MLP
from everyformer.grids import as_map
from everyformer.masks import Full, Mask
from everyformer.mixers import Attention
from everyformer.norms import LayerNorm, PreNorm
from everyformer.norms.branches import Branch
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


def lend(owner: nn.Module, path: str, holder: nn.Module, at: str) -> None:
    """Let what `owner` has at a path stand in `holder` too; a part that has been exchanged for one without is not shared."""
    lent, held = dict(owner.named_modules()).get(path), dict(holder.named_modules())
    if lent is not None and at in held:
        place, _, name = at.rpartition(".")
        held[place]._modules[name] = lent


@part("backbones")
class SharingStage(Stage):
    """A stage whose blocks have the parts at the paths `shared` in common: those of the first block, where there are some."""

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
        shared: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            width,
            to=to,
            enter=enter,
            places=places,
            first=first,
            blocks=blocks,
            norm=norm,
            positions=positions,
            mask=mask,
        )
        for path in shared:
            for block in self.blocks[1:]:
                lend(self.blocks[0], path, block, path)


@part("backbones")
class ScaleLayer(Part):
    """A layer over `scales` maps of one width: `before` and `mixer` in each, their updates brought to the size of every other
    map and added up, then a feedforward that all have in common (Xu et al., CoaT, 2021, figure 4).
    """

    def __init__(
        self,
        width: int,
        scales: int,
        *,
        before: Spec[Backbone] | None = None,
        mixer: Spec[Mixer] = spec(Attention),  # noqa: B008
        feedforward: Spec[FeedForward] = spec(MLP),  # noqa: B008
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        branches: tuple[Spec[Branch], ...] = (),
        residual: Spec[PreNorm] = spec(PreNorm),  # noqa: B008
    ) -> None:
        super().__init__()
        count = range(scales)
        self.before = nn.ModuleList([] if before is None else [self.make("before", before, width) for _ in count])
        self.norm = nn.ModuleList(self.make("norm", norm, width) for _ in count)
        self.mixer = nn.ModuleList(self.make("mixer", mixer, width) for _ in count)
        self.branches = self.make("branches", branches, width)
        self.feedforward: FeedForward = self.make("feedforward", feedforward, width)
        self.residual = nn.ModuleList(self.make("residual", residual, width) for _ in count)

    def forward(self, maps: Sequence[Tokens], context: Context | None = None) -> tuple[Tokens, ...]:
        """The maps after the layer."""
        context = context or Context()
        if len(self.before):
            maps = [before(each, context) for before, each in zip(self.before, maps, strict=True)]
        normed = [each.update(norm(each.values)) for norm, each in zip(self.norm, maps, strict=True)]
        updates = [each.update(mix(mixer, each, context)) for mixer, each in zip(self.mixer, normed, strict=True)]
        given = []
        for here in maps:
            update = torch.stack([resized(each, here) for each in updates]).sum(0)
            for branch in self.branches:
                update = branch(update, here, context)
            given.append(here.update(here.values + update))
        return tuple(
            residual(each, lambda t: self.feedforward(t, context), context)
            for each, residual in zip(given, self.residual, strict=True)
        )


def resized(tokens: Tokens, like: Tokens) -> Float[Tensor, "B N D"]:
    """The values of one map at the size of another, the leading ones as they are."""
    if tokens.grid == like.grid:
        return tokens.values
    cells = F.interpolate(as_map(tokens), like.grid, mode="bilinear")
    return torch.cat((tokens.values[:, : tokens.prefix], cells.flatten(2).mT), 1)


@part("backbones")
class CoScale(Backbone):
    """Stages one after the other, then `layers` over the maps of all but the first, which have one width; a last norm for
    each (Xu et al., CoaT, 2021, section 4). It gives the coarsest map, and the leading tokens of all before it.

    A pair of `shared` is a path in a layer, where `*` is the number of a scale, and a path in the stage of that scale, whose
    part stands in both.
    """

    leads = 1

    def __init__(
        self,
        width: int,
        *,
        stages: tuple[Spec[Backbone], ...] = (spec(Stage),) * 3,
        layers: tuple[Spec[ScaleLayer], ...] = (spec(ScaleLayer),),
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        shared: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__()
        self.stages = self.chain("stages", stages, width)
        widths: set[Any] = {stage.gives for stage in self.stages[1:]}
        if len(widths) > 1:
            raise DoesNotFit(
                f"maps of widths {sorted(widths)} cannot be added up; give all stages but the first one width"
            )
        scales = len(stages) - 1
        self.layers = self.make("layers", layers, self.gives, scales)
        self.norm = nn.ModuleList(self.make("norm", norm, self.gives) for _ in range(scales))
        for inside, outside in shared:
            for layer in self.layers:
                for s, stage in enumerate(self.stages[1:]):
                    lend(stage, outside, layer, inside.replace("*", str(s)))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The coarsest map after all layers."""
        context = context or Context()
        maps: list[Any] = []
        for stage in self.stages:
            tokens = stage(tokens, context)
            maps.append(tokens)
        maps = maps[1:]
        for layer in self.layers:
            maps = layer(maps, context)
        maps = [each.update(norm(each.values)) for norm, each in zip(self.norm, maps, strict=True)]
        return gathered(maps)


def gathered(maps: list[Tokens]) -> Tokens:
    """The last map behind the leading tokens of all."""
    *others, last = maps
    if not last.prefix:
        return last
    leading = [each.values[:, : each.prefix] for each in others]
    count = sum(each.prefix for each in others)
    return last.replace(
        values=torch.cat((*leading, last.values), 1),
        positions=F.pad(last.places, (0, 0, count, 0)),
        prefix=last.prefix + count,
    )
