"""Several methods on one model, in every order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import permutations

from torch import nn

from everyformer.designs import design_of
from everyformer.edits import remove
from everyformer.errors import BadInput
from everyformer.registry import method

Change = Callable[[nn.Module], nn.Module]
"""A model into another one; the first stays as it is."""


def plain(model: nn.Module) -> nn.Module:
    """A copy with a plain linear map of the same weight wherever another form stands, so that any method finds its maps."""
    made = copy.deepcopy(model)
    for path in design_of(made).forms():
        remove(made, path)
    return made


@method(
    "survey-transformer-compression",
    title="A Survey on Transformer Compression",
    authors="Tang et al.",
    year=2024,
    arxiv="2402.05964",
    idea="Pruning, quantization and distillation add up; whether it matters which comes first is asked by trying every order.",
)
def in_every_order(model: nn.Module, changes: Mapping[str, Change]) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
    """Each order of the names, and what the changes make of the model one after the other; each is given plain maps."""
    if len(changes) < 2:
        raise BadInput(f"an order is of two changes or more; given {', '.join(changes) or 'none'}")
    for order in permutations(changes):
        made = model
        for name in order:
            made = changes[name](plain(made))
        yield order, made
