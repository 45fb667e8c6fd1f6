"""Parts made with fewer of their units: what is left is what it was, and what cannot be left out is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import everyformer as ef
from support.agreement import close


def answer(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**batch)
    return found


def test_the_kept_ones_are_those_that_were_asked_for() -> None:
    """What the others gave is gone, and nothing else: as if their output weights were zero."""
    for name, options in (
        ("vit", {"classes": 3, "image": 16, "patch": 4}),
        ("llama", {"vocabulary": 20, "hidden": 12}),
    ):
        key_heads = {"key_heads": 2} if name == "llama" else {}
        model: Any = ef.create(name, width=32, depth=2, heads=4, seed=0, **options, **key_heads).eval()
        small, batch = copy.deepcopy(model), model.example()
        kept = {"backbone.blocks.1.mixer": [1], "backbone.blocks.0.feedforward": [7, 2, 5]}
        ef.keep(small, kept)
        for path, units in kept.items():
            part: Any = model.get_submodule(path)
            off = [i for i in range(part.units().count) if i not in units]
            with torch.no_grad():
                getattr(part, part.units().output).weight[:, part.units().inputs[off].flatten()] = 0
        close(answer(small, batch), answer(model, batch), name)
        assert small.backbone.blocks[0].feedforward.down.in_features == 3
        mixer = small.backbone.blocks[1].mixer
        assert (mixer.heads, mixer.key_heads) == ((2, 1) if name == "llama" else (1, 1))
        whole = ef.keep(
            copy.deepcopy(model), {"backbone.blocks.0.mixer": range(model.backbone.blocks[0].mixer.key_heads)}
        )
        assert torch.equal(answer(whole, batch), answer(model, batch)), "all kept is no change"


def test_a_part_that_grows_keeps_its_heads() -> None:
    model: Any = ef.create("vit", width=32, depth=1, heads=2, classes=3, image=16, patch=4, seed=0).eval()
    before, batch = answer(model, model.example()), model.example()
    ef.resize(model, "backbone.blocks.0.mixer.head_width", 16)
    ef.resize(model, "backbone.blocks.0.mixer.heads", 3)
    mixer = model.backbone.blocks[0].mixer
    assert mixer.qkv.weight.shape == (144, 32)
    with torch.no_grad():
        mixer.output.weight[:, 32:] = 0
    close(answer(model, batch), before)


def test_what_cannot_be_kept_is_told() -> None:
    model: Any = ef.create("vit", width=32, depth=1, heads=2, classes=3, image=16, patch=4, seed=0).eval()
    mixer = "backbone.blocks.0.mixer"
    with pytest.raises(ef.UnknownName, match="unknown part with heads or hidden units 'embedding'.*known: .*mixer"):
        ef.keep(model, {"embedding": [0]})
    for kept in ([], [2], [-1]):
        with pytest.raises(ef.BadInput, match="of 2 units some are kept, numbered 0 to 1"):
            ef.keep(model, {mixer: kept})
    rounded = ef.compression.rtn(model, paths=mixer + ".*")
    with pytest.raises(ef.DoesNotFit, match="another form at 'backbone.blocks.0.mixer.output'"):
        ef.keep(rounded, {mixer: [0]})
    swapped = ef.swap(model, mixer, ef.spec(ef.mixers.LongformerAttention, heads=2))
    with pytest.raises(ef.DoesNotFit, match="LongformerAttention has no option 'head_width'"):
        ef.keep(swapped, {mixer: [0]})
