"""The registry: rooms, parts, systems, and what is said where a name is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

import everyformer as ef
from everyformer import registry
from everyformer.contracts import Mixer
from everyformer.errors import DoesNotFit, UnknownName, nearest
from everyformer.registry import find_part, find_published, find_system


def test_a_part_is_found_by_room_and_name() -> None:
    assert find_part("mixers.Attention") is ef.mixers.Attention
    assert ef.parts("mixers")["Attention"].room == "mixers"
    assert find_system("vit").arxiv == "2010.11929"


def test_a_part_registers_itself_and_a_name_stands_once() -> None:
    try:
        mine = type("Mine", (Mixer,), {"__module__": "somewhere"})
        ef.part("mixers")(mine)
        assert ef.parts("mixers")["Mine"] is mine
        with pytest.raises(ef.EveryformerError, match="room 'mixers' has a part 'Mine' already"):
            ef.part("mixers")(type("Mine", (Mixer,), {"__module__": "elsewhere"}))
    finally:
        registry._parts["mixers"].pop("Mine", None)
    with pytest.raises(UnknownName, match="unknown room 'mixer'; did you mean 'mixers'"):
        ef.part("mixer")
    with pytest.raises(UnknownName, match="unknown system 'transformr'; did you mean 'transformer'"):
        find_system("transformr")


def test_every_system_says_where_it_comes_from() -> None:
    for name, system in ef.systems().items():
        assert system.title
        assert system.idea.endswith("."), name
        assert system.authors
        assert 2015 <= system.year <= 2100
        assert system.tasks, name
        assert system.default is None or system.default in system.sizes


def test_a_method_is_found_beside_the_systems(a_method: str) -> None:
    assert ef.methods()[a_method].call == "ef.compression.halve(model, share)"
    assert find_published(a_method).paper == "Nobody (2024), Half"
    assert find_published("vit").name == "vit"
    with pytest.raises(UnknownName, match="unknown system or method 'vti'; did you mean 'vit'"):
        find_published("vti")


def test_the_nearest_names_or_all_of_them() -> None:
    assert nearest("attenton", ["Attention", "Pooling"]) == "did you mean 'Attention'?"
    assert nearest("zzz", ["a", "b"]) == "known: a, b"
    assert nearest("zzz", []) == "none is known"
    assert nearest("zzz", [f"n{i}" for i in range(50)]).endswith("n39, ...")


def test_an_error_collects_its_path_on_the_way_out() -> None:
    error = DoesNotFit("too wide", "mixer").inside("0").inside("blocks")
    assert error.path == "blocks.0.mixer"
    assert str(error) == "at 'blocks.0.mixer': too wide"
    assert isinstance(error, (ef.EveryformerError, TypeError))


def test_importing_loads_neither_torch_nor_what_single_commands_need() -> None:
    heavy = [
        "torch",
        "datasets",
        "tokenizers",
        "transformers",
        "lightning_fabric",
        "sklearn",
        "sacrebleu",
        "PIL",
        "soundfile",
    ]
    code = f"import sys, everyformer; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    code = (
        "import sys, everyformer as ef; [ef.parts(r) for r in ('embeddings', 'mixers', 'heads', 'backbones')]; "
        f"print([m for m in {heavy[1:]} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_list_of_a_recipe_is_a_tuple_of_a_design() -> None:
    assert ef.design("masformer", "nano", full=[1, 2]) == ef.design("masformer", "nano", full=(1, 2))
    assert ef.design("masformer", "nano", full=[]) == ef.design("masformer", "nano", full=())


def test_options_of_several_values_are_taken_as_yaml_has_them():
    assert ef.design("swin", depths=[2, 1], heads=[2, 4]) == ef.design("swin", depths=(2, 1), heads=(2, 4))


def test_lists_inside_lists_too():
    assert ef.design("t2t-vit", splits=[[3, 2, 1]]) == ef.design("t2t-vit", splits=((3, 2, 1),))
