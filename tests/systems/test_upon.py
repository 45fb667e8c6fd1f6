"""Published designs that are others with parts exchanged: one list of options, each with one home."""

import inspect

import pytest

import everyformer as ef
from everyformer.designs import Design
from everyformer.masks import Window
from everyformer.published.gpt import gpt
from everyformer.published.upon import upon


@upon(gpt, fixed={"bias": False}, vocabulary=11, width=8)
def changed(design: Design, *, heads: int = 2, window: int = 3) -> Design:
    """GPT-2 that sees the last tokens."""
    return design.set("backbone.blocks.*.mixer", ef.spec(ef.mixers.Attention, heads=heads, mask=Window(window)))


def test_the_options_are_those_of_both_with_the_changed_defaults():
    known = {name: each.default for name, each in inspect.signature(changed).parameters.items()}
    assert known["vocabulary"] == 11
    assert known["width"] == 8
    assert known["length"] == 1024
    assert known["heads"] == 2
    assert known["window"] == 3
    assert "bias" not in known
    assert "design" not in known


def test_an_option_of_both_goes_to_both():
    @upon(gpt)
    def seen(design: Design, *, heads: int = 3) -> Design:
        assert design.get("backbone.blocks.0.mixer.heads") == heads
        return design

    seen()
    seen(heads=4)


def test_what_is_fixed_or_unknown_cannot_be_chosen():
    for options in ({"bias": True}, {"widht": 8}):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            changed(**options)
    with pytest.raises(TypeError, match="gpt has no option widht"):
        upon(gpt, widht=8)


def test_it_is_the_base_with_its_parts_exchanged():
    made = changed(depth=2, window=5)
    assert made.get("backbone.blocks.1.mixer.mask") == Window(5)
    assert made.get("embedding") == gpt(vocabulary=11, width=8, bias=False).get("embedding")
