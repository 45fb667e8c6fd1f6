"""A trained model made one project's own: several ways of training some of it, and the rest left as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

from torch import nn

from everyformer.compression.adapters import LoRA, adapters
from everyformer.compression.calibration import BLOCKS, exchanged
from everyformer.contracts import Slots
from everyformer.designs import design_of, parts_at, seeded
from everyformer.edits import resize
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.registry import method
from everyformer.scores import Persistent
from everyformer.specs import signature, spec

Way = Callable[[nn.Module, int], tuple[nn.Module, Iterable[nn.Module]]]
"""A model and a size into a copy of it and the parts of that which learn."""


def whole(model: nn.Module, size: int) -> tuple[nn.Module, list[nn.Module]]:
    """All of it: one model for each project."""
    made = copy.deepcopy(model)
    return made, [made]


def ends(model: nn.Module, size: int) -> tuple[nn.Module, list[nn.Module]]:
    """Embeddings and the map to the vocabulary."""
    made = copy.deepcopy(model)
    named = (getattr(made, name, None) for name in ("embedding", "source", "target", "head"))
    return made, [each for each in named if each is not None]


def last_block(model: nn.Module, size: int) -> tuple[nn.Module, list[nn.Module]]:
    """The last block of the decoder."""
    made = copy.deepcopy(model)
    body = getattr(made, "decoder", getattr(made, "backbone", None))
    blocks = getattr(body, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise DoesNotFit("its last block is trained, and its body is no stack of blocks", "backbone")
    return made, [blocks[-1]]


def prefix(model: nn.Module, size: int) -> tuple[nn.Module, list[nn.Module]]:
    """`size` keys and values in front of those of every attention, over the tokens and over a memory."""
    made = copy.deepcopy(model)
    places = [path for path, each in design_of(made).walk() if "slots" in signature(each.part)]
    if not places:
        raise DoesNotFit("no attention here takes keys and values beside those of its tokens", "backbone")
    for path in places:
        if design_of(made).get(path).get("slots") is not None:
            raise DoesNotFit("keys and values stand beside those of the tokens already", f"{path}.slots")
        resize(made, f"{path}.slots", spec(Persistent, count=size))
    return made, [each for path in places for _, _, each in parts_at(made, f"{path}.slots") if isinstance(each, Slots)]


def low_rank(model: nn.Module, size: int) -> tuple[nn.Module, list[nn.Module]]:
    """An adapter of rank `size` beside every map inside blocks."""
    made, _ = exchanged(model, BLOCKS, spec(LoRA, rank=size))
    return made, [half for each in adapters(made).values() for half in (each.down, each.up)]


WAYS: dict[str, Way] = {
    "whole": whole,
    "ends": ends,
    "last-block": last_block,
    "prefix": prefix,
    "low-rank": low_rank,
}


@method(
    "personalized-code-generation",
    title="Exploring and Evaluating Personalized Models for Code Generation",
    authors="Zlotchevski et al.",
    year=2022,
    arxiv="2208.13928",
    idea="Compare what it costs and gains to train all of a model, its ends, its last block or a prefix on one project's code.",
)
def personalised(model: nn.Module, way: str, *, size: int = 8, seed: int | None = None) -> nn.Module:
    """A copy of a trained model in which only one of the `WAYS` learns, to be trained on a project; the model stays as it is.

    'whole', 'ends' (L-EO), 'last-block' (L-LDB) and 'prefix' are the paper's, 'low-rank' is LoRA. `size` is the length of the
    prefix, or the rank.
    """
    if way not in WAYS:
        raise UnknownName("way of making a model one's own", way, WAYS)
    if size < 1:
        raise BadInput(f"size is {size}; a prefix has 1 token or more, an adapter rank 1 or more")
    with seeded(seed):
        made, learn = WAYS[way](model, size)
    made.requires_grad_(False)
    for each in learn:
        each.requires_grad_(True)
    return made
