"""Spec: a part's constructor call, written down, checked, compared and read back."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import everyformer as ef
from everyformer.masks import Causal, Where, Window
from everyformer.specs import from_plain, runs, to_plain
from support.parts import names, spec_of

ATTENTION = ef.spec(ef.mixers.Attention, heads=4)
ERRORS: list[tuple[Any, str]] = [
    (lambda: ef.spec(ef.mixers.Attention, haeds=4), "unknown option of Attention 'haeds'; did you mean 'heads'"),
    (lambda: ef.spec(ef.mixers.Attention, heads="4"), "option 'heads' of Attention takes int; given '4'"),
    (lambda: ef.spec(ef.mixers.Attention, heads=True), "takes int; given True"),
    (lambda: ef.spec(ef.mixers.Attention, dropout="no"), "option 'dropout' of Attention takes float"),
    (lambda: ef.spec(ef.mixers.Attention, mask="causal"), "option 'mask' of Attention takes Mask"),
    (
        lambda: ef.spec(ef.mixers.Attention, positions=ef.positions.Rotary),
        "option 'positions' of Attention takes ef.spec(...) of a Position",
    ),
    (lambda: ef.spec(ef.backbones.Encoder, blocks=ef.spec(ef.backbones.Block)), "option 'blocks' of Encoder takes"),
    (lambda: ef.spec(ef.positions.LearnedGrid, grid=("a", 2)), "option 'grid' of LearnedGrid takes"),
    (lambda: ef.spec(ef.embeddings.Text), "Text needs the option 'vocabulary'; write vocabulary="),
    (lambda: ef.spec(ef.mixers.Attention, 4), "by keyword; given (4,)"),
    (lambda: ATTENTION.but(head=2), "did you mean 'heads'"),
    (lambda: from_plain({"mixers.Atention": {}}), "did you mean 'Attention'"),
    (lambda: from_plain({"mixer.Attention": {}}), "unknown room 'mixer'; did you mean 'mixers'"),
    (lambda: from_plain({"mixers.Attention": {"heads": 4}, "x": 1}), "expected one 'room.Part: {options}'"),
    (lambda: from_plain({"masks.Causl": {}}), "did you mean 'Causal'"),
    (lambda: from_plain({"repeat": 2, "part": {"mixers.Attention": {}}}), "'repeat' stands only inside a list"),
    (lambda: from_plain({"mixers.Attention": 3}), "expected the options of 'mixers.Attention'"),
    (lambda: from_plain({3: {}}), "expected one 'room.Part: {options}'"),
    (lambda: from_plain({"masks.Window": {"befor": 3}}), "masks.Window"),
    (lambda: to_plain(ATTENTION.but(mask=Where(lambda q, k: q > k))), "a mask by function cannot be written down"),
]


@pytest.mark.parametrize(("act", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_mistakes_are_answered(act: Any, message: str) -> None:
    with pytest.raises(ef.EveryformerError) as error:
        act()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ef.spec(ef.mixers.Attention, heads=7), "width 32 is not a multiple of heads 7"),
        (ef.spec(ef.mixers.Attention, heads=0), "heads"),
        (ef.spec(ef.mixers.Attention, heads=-4), "heads"),
        (ef.spec(ef.feedforward.MLP, hidden=-4), "hidden"),
        (ef.spec(ef.feedforward.MLP, activation="gelo"), "did you mean 'gelu'"),
        (ef.spec(ef.norms.StochasticDepth, rate=1.0), "at least 0 and below 1; given 1.0"),
        (ef.spec(ef.backbones.Block, feedforward=ef.spec(ef.feedforward.MLP, activation="x")), "at 'feedforward'"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(spec: ef.Spec[Any], message: str) -> None:
    with pytest.raises(ef.DoesNotFit) as error:
        spec.build(32)
    assert message in str(error.value)


def test_frozen_comparable_and_hashable() -> None:
    assert ef.spec(ef.mixers.Attention, heads=4) == ATTENTION
    assert hash(ATTENTION) == hash(ef.spec(ef.mixers.Attention, heads=4))
    assert ef.spec(ef.mixers.Attention, heads=2) != ATTENTION
    assert ef.spec(ef.mixers.CrossAttention, heads=4) != ATTENTION
    with pytest.raises(AttributeError, match="a Spec is frozen"):
        ATTENTION.part = ef.mixers.CrossAttention
    with pytest.raises(TypeError):
        ATTENTION.options["heads"] = 3
    assert ATTENTION.but(heads=2).options["heads"] == 2
    assert ATTENTION.options["heads"] == 4
    assert (ATTENTION.get("heads"), ATTENTION.get("dropout")) == (4, 0.0)


def test_printed_as_it_was_written() -> None:
    assert repr(ATTENTION) == "ef.spec(mixers.Attention, heads=4)"
    block = ef.spec(ef.backbones.Block, mixer=ATTENTION)
    assert repr(block) == "ef.spec(backbones.Block, mixer=ef.spec(mixers.Attention, heads=4))"
    assert f"(12 * [{block!r}])" in repr(ef.spec(ef.backbones.Encoder, blocks=[block] * 12))


def test_runs_counts_equal_neighbours() -> None:
    assert runs(("a", "a", "b", "a")) == [(2, "a"), (1, "b"), (1, "a")]


@pytest.mark.parametrize(
    "name", names("embeddings", "positions", "mixers", "feedforward", "norms", "backbones", "heads")
)
def test_every_part_round_trips_through_yaml(name: str) -> None:
    spec = spec_of(name)
    assert from_plain(yaml.safe_load(yaml.safe_dump(to_plain(spec)))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert copy.deepcopy(spec) == spec


def test_masks_and_repeats_round_trip_through_yaml() -> None:
    block = ef.spec(ef.backbones.Block, mixer=ATTENTION.but(mask=Window(3) & Causal() | Window(1, 1)))
    spec = ef.spec(ef.backbones.Encoder, blocks=(block, block, block.but(feedforward=None), block))
    text = yaml.safe_dump(to_plain(spec))
    assert text.count("repeat: 2") == 1
    assert from_plain(yaml.safe_load(text)) == spec


SNIPPET = """
import everyformer as ef
right = ef.spec(ef.mixers.Attention, heads=8)
reveal_type(right)
ef.spec(ef.mixers.Attention, haeds=8)
ef.spec(ef.mixers.Attention, heads="8")
ef.spec(ef.norms.ReversibleInstance, eps=1e-3)
ef.spec(ef.positions.Rotary, bas=1.0)
"""


def test_a_type_checker_refuses_a_misspelt_option(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    quick = "[mypy]\nignore_missing_imports = True\nfollow_imports = silent\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\n"
    (tmp_path / "mypy.ini").write_text(quick)
    source = Path(ef.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--config-file", "mypy.ini"]
    done = subprocess.run(
        [*command, "snippet.py"], cwd=tmp_path, env={"MYPYPATH": str(source)}, capture_output=True, text=True
    )  # fmt: skip
    out = done.stdout
    assert "Spec[everyformer.mixers.attention.Attention]" in out, out + done.stderr
    assert "snippet.py:5: error:" in out, out
    assert "snippet.py:6: error:" in out, out
    assert "snippet.py:7: error" not in out, out
    assert "snippet.py:8: error:" in out, out
