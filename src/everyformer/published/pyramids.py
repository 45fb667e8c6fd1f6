"""What the published pyramids share: stages of pre-norm blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from everyformer.backbones import Block, Bottlenecks, Pyramid, Stage
from everyformer.contracts import Backbone, FeedForward, Mixer, Norm, Transition
from everyformer.errors import EveryformerError
from everyformer.norms import PreNorm
from everyformer.published.bodies import branches, rising
from everyformer.specs import Spec, spec


def pyramid(
    widths: Sequence[int],
    depths: Sequence[int],
    block: Callable[[int, int, float], Spec[Backbone]],
    *,
    enter: Spec[Transition],
    drop_path: float = 0.0,
    norm: Spec[Norm] | None = None,
    more: Callable[[int], dict[str, Any]] = lambda stage: {},
    part: type[Stage] = Stage,
) -> Spec[Pyramid]:
    """Stages of `depths` blocks: `block(stage, index, rate of stochastic depth)`; `enter` leads into all but the first.

    `more` are options of each stage, which is a `part`; `norm` stands after the last one.
    """
    rates = iter(rising(drop_path, sum(depths)))
    stages = []
    for i, depth in enumerate(depths):
        blocks = tuple(block(i, j, next(rates)) for j in range(depth))
        changed = {"to": widths[i], "enter": enter} if i else {}
        stages.append(spec(part, **{**changed, **more(i)}, blocks=blocks))
    return spec(Pyramid, stages=tuple(stages), norm=norm)


def residual_stages(
    stem: int, convs: Sequence[int], part: type[Bottlenecks] = Bottlenecks, **options: Any
) -> list[Spec[Stage]]:
    """The stages of a residual network after a stem of that width (He et al., ResNet, 2016, table 1)."""
    stages = []
    for i, count in enumerate(convs):
        enter = spec(part, depth=count, stride=2 if i else 1, pool=not i, **options)
        stages.append(spec(Stage, to=stem * 4 * 2**i, enter=enter, blocks=()))
    return stages


def pre_norm(
    mixer: Spec[Mixer] | None,
    feedforward: Spec[FeedForward] | Spec[Mixer] | None,
    norm: Spec[Norm],
    rate: float,
    *,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Spec[Block]:
    """A pre-norm block with LayerScale from `scale` and stochastic depth of `rate`."""
    residual = spec(PreNorm, norm=norm, dropout=dropout, branches=branches(scale, rate))
    return spec(Block, mixer=mixer, feedforward=feedforward, residual=residual)


def same_length(**options: Sequence[Any]) -> None:
    """Refuse options that say something of each stage and speak of different numbers of stages."""
    if len({len(each) for each in options.values()}) > 1:
        told = ", ".join(f"{name}={each}" for name, each in options.items())
        raise EveryformerError(f"expected one value for each stage; given {told}")
