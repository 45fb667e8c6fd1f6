"""Embeddings of a new model that old ones can still be compared with."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from everyformer.edits import swap
from everyformer.errors import DoesNotFit
from everyformer.heads import BasisTransforms
from everyformer.registry import method
from everyformer.specs import spec


@method(
    "bt2",
    title="BT^2: Backward-compatible Training with Basis Transformation",
    authors="Zhou et al.",
    year=2023,
    arxiv="2211.03989",
    idea="Turn the vectors of a new model, with a few dimensions more, so that the first of them can be compared with those of "
    "the old one: rotations lose nothing, and no gallery is embedded again.",
)
def bt2(model: nn.Module, *, old: int, extra: int = 32) -> Any:
    """A copy of a trained classifier with a `BasisTransforms` head for old vectors of width `old`, in place of its own.

    To be trained with `objectives.BackwardCompatible`, after `objective.teach(old_model, new_model)`.
    """
    head: Any = getattr(model, "head", None)
    if head is None or not hasattr(head, "pool") or not hasattr(head, "classes"):
        raise DoesNotFit("expected a model with a head of classes over pooled tokens (ClassHead)", "head")
    new = spec(BasisTransforms, classes=head.classes, old=old, extra=extra, pool=head.pool.spec)
    return swap(copy.deepcopy(model), "head", new)
