"""`look`: a page of what a model does with one sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from everyformer.errors import BadInput, UnknownName
from everyformer.interop.checkpoint import Checkpoint
from everyformer.report.inside import VIEWS, Sample, gather
from everyformer.report.page import Page
from everyformer.report.samples import sample_of
from everyformer.training import Run

TABS = {"heads": "attention", "model": "attention", **{name: name for name in VIEWS if name != "attention"}}
"""What can be open first, and what it needs."""


def look(
    model: nn.Module | Run | Checkpoint,
    inputs: Any,
    *,
    words: Sequence[str] | None = None,
    target_words: Sequence[str] | None = None,
    answers: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    view: str = "heads",
    **fields: Tensor,
) -> Page:
    """A page for a model and a batch of one, or for a run or checkpoint and a raw input; a notebook shows it, `save` writes it.

    `words` and `target_words` name the tokens, `answers` the classes or the vocabulary, `layers` are those whose attention
    is kept, `view` is open first; `fields` is what else of a batch the model takes.
    """
    if isinstance(model, (Run, Checkpoint)):
        sample = sample_of(model, inputs, layers)
    else:
        name = str if answers is None else answers.__getitem__
        title = getattr(model, "system", "") or type(model).__name__
        sample = Sample(model, {"inputs": inputs, **fields}, title, words, target_words, None, name, layers)
    if view not in TABS:
        raise UnknownName("view", view, TABS)
    data = gather(sample)
    if TABS[view] not in data["views"] and view != "heads":
        there = [tab for tab, needs in TABS.items() if needs in data["views"]]
        raise BadInput(f"no view '{view}': {data['notes'][TABS[view]]}; what can be shown: {', '.join(there)}")
    if layers is not None and "attention" not in data["views"]:
        raise BadInput(data["notes"]["attention"])
    return Page(data, view)
