"""A model's own layers as its draft."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.speculative import Speculative
from everyformer.generation.strategies import Greedy, Single
from everyformer.models import Model
from everyformer.registry import method
from everyformer.specs import Spec, spec


def some_layers(model: Model, keep: int | Sequence[int]) -> Any:
    """The model with its first `keep` blocks alone, or with those of these numbers; all weights are the model's own."""
    blocks = getattr(getattr(model, "backbone", None), "blocks", None)
    if not isinstance(blocks, nn.ModuleList) or getattr(model.backbone, "depth", None) is not None:
        raise DoesNotFit("layers are left out of a plain stack of blocks, and here is none", "backbone")
    numbers = list(range(keep)) if isinstance(keep, int) else list(keep)
    if not numbers or numbers != sorted({*numbers} & {*range(len(blocks))}):
        raise BadInput(f"keep is {keep}; of {len(blocks)} blocks give how many of the first stay, or numbers in order")
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    made = copy.deepcopy(model, shared)
    made.backbone.blocks = nn.ModuleList(made.backbone.blocks[i] for i in numbers)
    return made


@method(
    "self-speculative-decoding",
    title="Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative Decoding",
    authors="Zhang et al.",
    year=2023,
    arxiv="2309.08168",
    idea="Some of a model's own layers guess ahead, and all of them accept or correct: no second model, nothing lost.",
)
def self_speculative(
    model: Model,
    *,
    keep: int | Sequence[int],
    ahead: int = 4,
    choice: Spec[Single] = spec(Greedy),  # noqa: B008
) -> Speculative:
    """The strategy, for `generate(model, ..., strategy=self_speculative(model, keep=2))`: `Speculative` by `some_layers`."""
    return Speculative(draft=some_layers(model, keep), ahead=ahead, choice=choice)
