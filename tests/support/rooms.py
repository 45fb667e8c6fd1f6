"""How a part of each room is called in tests: values in, one tensor out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.backbones.bilateral import Join
from everyformer.backbones.chunks import Chunker
from everyformer.backbones.depth import Depth
from everyformer.backbones.interleaved import Round
from everyformer.backbones.loops import Entrance
from everyformer.backbones.remembering import Bank
from everyformer.backbones.sharing import ScaleLayer
from everyformer.context import Context
from everyformer.contracts import (
    Backbone,
    Embedding,
    FeedForward,
    Head,
    MapHead,
    Mixer,
    Position,
    Reduction,
    Residual,
    Router,
    Transition,
    mix,
)  # fmt: skip
from everyformer.embeddings.finish import lead
from everyformer.embeddings.tables import Table
from everyformer.grids import as_map, as_tokens
from everyformer.heads.pixels import Pixels
from everyformer.heads.pools import Pool
from everyformer.heads.proposals import Looking, Proposals
from everyformer.heads.upsampling import Upsampling
from everyformer.mixers import Directions, FeatureMap
from everyformer.mixers.attended import Attended
from everyformer.mixers.lowering import Lowered
from everyformer.models.model import Root
from everyformer.norms.branches import Branch
from everyformer.tokens import Tokens
from support.parts import COUNT, HEADS, VOCABULARY, WIDTH, context, names, tokens

ROOMS = (
    "embeddings",
    "positions",
    "mixers",
    "feedforward",
    "norms",
    "backbones",
    "heads",
    "models",
    "reduction",
    "compression",
)


def parts_that_run() -> list[str]:
    """Every part of these rooms that is called with values; not how weights start."""
    from everyformer.models.starts import Start
    from support.parts import spec_of

    return [name for name in names(*ROOMS) if not issubclass(spec_of(name).part, Start)]


def example(part: nn.Module, batch: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """A batch that an embedding or a model takes, with random contents."""
    generator = torch.Generator().manual_seed(seed)
    filled = {}
    for name, value in part.example(batch).items():
        if value.is_floating_point():
            filled[name] = torch.randn(value.shape, generator=generator)
        else:
            filled[name] = torch.randint(0, vocabulary_of(part), value.shape, generator=generator).to(value.dtype)
    return filled


def vocabulary_of(part: nn.Module) -> int:
    """The smallest vocabulary of the embeddings inside."""
    found = [
        module.vocabulary
        for module in part.modules()
        if isinstance(module, Embedding) and hasattr(module, "vocabulary")
    ]
    return min(found, default=VOCABULARY)


def run(
    part: nn.Module, dtype: torch.dtype = torch.float32, *, seed: int = 1, width: int = WIDTH, marked: bool = False
) -> Tensor:
    """What a part makes of random tokens, pictures, series, ... of that type."""
    call, values = prepared(part, dtype, seed=seed, width=width, marked=marked)
    return call(values)


def prepared(
    part: nn.Module, dtype: torch.dtype = torch.float32, *, seed: int = 1, width: int = WIDTH, marked: bool = False
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A function of one tensor that calls the part, and a tensor for it: (3, N, D) values, or a raw input."""
    if isinstance(part, (Embedding, Root)):
        batch = {
            name: value.to(dtype) if value.is_floating_point() and name != "noise" else value
            for name, value in example(part, seed=seed).items()
        }
        inputs = batch.pop("inputs")
        return lambda x: _values(part(x, **batch)), inputs
    if isinstance(part, Table):
        return part, torch.randint(part.vocabulary, (3, COUNT), generator=torch.Generator().manual_seed(seed))
    if isinstance(part, Reduction):
        return reducing(part, dtype, width=width, seed=seed)
    grid = "grid" in getattr(part, "capabilities", ()) or getattr(part, "needs_grid", False)
    whole = tokens(width=width, seed=seed, grid=grid or isinstance(part, (Position, Transition)))
    if marked:
        whole.marked = torch.zeros(whole.values.shape[:2], dtype=torch.bool)
        whole.marked[:, 0] = True
    if isinstance(part, Transition) and part.leading:
        whole = lead(whole, whole.values[0, :1])
    if isinstance(part, (Head, Pool, Backbone)):
        whole.prefix = max(isinstance(part, (Head, Pool)) and not grid, 0 if isinstance(part, MapHead) else part.leads)
    shared = _in(dtype, width)

    def call(x: Tensor) -> Tensor:
        notes: dict[str, Tensor] = {}
        answer = _values(_call(part, whole.update(x), shared.replace(lowered={}, notes=notes)))
        return torch.cat([each.flatten() for each in (answer, *notes.values())]) if notes else answer

    return call, whole.values.to(dtype)


def reducing(
    part: Reduction, dtype: torch.dtype, *, seed: int, width: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What a reduction gives of tokens on a grid behind a class token, each value times its token's weight."""
    whole = leading(tokens(width=width, seed=seed, grid=True))

    def call(x: Tensor) -> Tensor:
        fewer = part(whole.update(x), Context(attended=[attended(x)]))
        return fewer.values if fewer.weights is None else fewer.values * fewer.weights[..., None]

    return call, whole.values.to(dtype)


def leading(whole: Tokens, seed: int = 3) -> Tokens:
    """The tokens behind a class token."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(whole.batch, 1, whole.width, generator=generator)
    places = torch.cat((torch.zeros_like(whole.places[:, :1]), whole.places), 1)
    return whole.replace(values=torch.cat((first, whole.values), 1), positions=places, prefix=1)


def attended(values: Tensor) -> Attended:
    """What an attention whose queries and keys are the values themselves would show."""
    heads = values.detach().unflatten(-1, (HEADS, -1)).transpose(1, 2)
    return Attended(heads, heads, Lowered(), 0.5, lambda: None)


def _in(dtype: torch.dtype, width: int) -> Any:
    shared = context(width=width)
    shared.condition = shared.condition.to(dtype)
    shared.memory["encoder"].values = shared.memory["encoder"].values.to(dtype)
    return shared


def _call(part: Any, whole: Any, shared: Any) -> Any:
    if isinstance(part, Position):
        return position(part, whole, shared)
    if isinstance(part, Mixer):
        marked = torch.arange(whole.count) == 0
        return mix(part, whole.replace(marked=marked.expand(whole.batch, -1)), shared)
    if isinstance(part, FeatureMap):
        return features(part, whole)
    if isinstance(part, Directions):
        return whole.values @ part().mT
    if isinstance(part, MapHead):
        coarse = as_tokens(as_map(whole)[:, :, ::2, ::2])
        if part.leads:
            whole, coarse = (lead(each, each.values[0, : part.leads]) for each in (whole.replace(prefix=0), coarse))
        return part(coarse, shared.replace(levels={nn.Identity(): each for each in (whole, coarse)}))
    if isinstance(part, Upsampling):
        return part(as_map(whole), as_map(whole).tanh())
    if isinstance(part, Join):
        deep = as_tokens(as_map(whole)[:, :, ::4, ::4].tanh()) if whole.grid else whole.update(whole.values.tanh())
        return part(whole, deep).values
    if isinstance(part, Pixels):
        cells, looked = part([as_map(whole), as_map(whole)[:, :, ::2, ::2]], shared)
        return torch.cat([each.flatten(1) for each in (cells, *looked)], 1)
    if isinstance(part, Proposals):
        return torch.cat([each.flatten(1) for each in part([as_map(whole), as_map(whole)[:, :, ::2, ::2]])], 1)
    if isinstance(part, Looking):
        return part(as_map(whole)[:, :, :2, :2])
    if isinstance(part, Router) and "condition" in part.capabilities:
        shared = shared.replace(condition=shared.condition[:, :HEADS])
    if isinstance(part, (FeedForward, Backbone, Head, Router, Transition)):
        return part(whole, shared)
    if isinstance(part, ScaleLayer):
        return torch.cat(
            [each.values for each in part([whole, whole.update(whole.values.tanh())] * (HEADS // 2), shared)]
        )
    if isinstance(part, Bank):
        return part(whole.batch)
    if isinstance(part, Round):
        return part(*rounded(whole), shared)[0]
    if isinstance(part, Depth):
        return part([whole.values * (0.5 + i) for i in range(HEADS + 1)])
    if isinstance(part, Chunker):
        real = whole.values.new_ones(whole.values.shape[:2], dtype=torch.bool)
        return part(whole.replace(marked=real & (torch.arange(whole.count) % 2 == 0)), real)
    if isinstance(part, Entrance):
        return part(whole, whole.update(whole.values.tanh()), 2)
    if isinstance(part, Residual):
        return part(whole, lambda t: t.values.roll(1, 0).tanh(), shared)
    if isinstance(part, Branch):
        return part(whole.values, whole, shared)
    if isinstance(part, Pool):
        return part(whole)
    return part(whole.values)


def rounded(whole: Tokens) -> tuple[Tensor, ...]:
    """Groups of two tokens with two latents each, which of the tokens are real, and the latents before the first group."""
    values = whole.values.unflatten(1, (-1, 2))
    latents = values.tanh()
    return values, latents, torch.ones(values.shape[:3], dtype=torch.bool), latents[:, :1]


def position(part: Position, whole: Any, shared: Any) -> Tensor:
    """All that a position part does, in one tensor."""
    found = []
    if "embedding" in part.stands.split():
        found.append(part.add(whole))
    if "attention" in part.stands.split():
        heads = whole.values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        found.append(part.rotate(heads, whole.places, shared))
        found.append(part.bias(heads, whole.places, whole.places, 0.5, shared))
    return torch.cat([x.flatten() for x in found if x is not None])


def features(part: FeatureMap, whole: Any) -> Tensor:
    """The features of queries and of keys, side by side."""
    heads = whole.values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    return torch.cat(part(heads, heads.flip(-1), whole.places), -1)


def _values(answer: Any) -> Tensor:
    if isinstance(answer, tuple):
        answer = answer[0]
    return answer if isinstance(answer, Tensor) else answer.values
