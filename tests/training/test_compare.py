"""Comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from everyformer.data.tasks.language import LanguageModelling
from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.recipe import load_recipe
from everyformer.report.comparison import cells, columns, ranked, scored_on, write_report
from everyformer.training.compare import compare, variants

from .fakes import Sums, recipe


def given(**designs: Any) -> Any:
    made = recipe(steps=4)
    made.compare = {"designs": designs}
    return made


def test_every_design_is_trained_and_measured_and_none_twice(tmp_path: Path) -> None:
    chosen = given(gpt={}, wide={"width": 24, "training": {"lr": 1e-4}}, llama={"system": "llama"})
    first = compare(chosen, tmp_path, task=Sums(), progress=False)
    assert [result["name"] for result in first] == ["gpt", "wide", "llama"]
    for result in first:
        assert {"metric", "better", "metrics", "parameters", "flops", "training_seconds", "peak_memory", "samples", "hash",
                "latency_ms", "throughput", "examples", "precision"} <= set(result)  # fmt: skip
        assert result["steps"] == 4
        assert [point["step"] for point in result["curve"] if "loss" in point] == [1, 2, 3, 4]
        assert any("accuracy" in point for point in result["curve"])
    assert first[1]["parameters"] > first[0]["parameters"]
    assert len({result["hash"] for result in first}) == 1
    assert json.loads((tmp_path / "compare.json").read_text()) == first
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")}
    compare(chosen, tmp_path, task=Sums(), progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/model.safetensors")} == stamps
    with pytest.raises(EveryformerError, match="was trained by another recipe"):
        compare(given(gpt={"depth": 1}), tmp_path, task=Sums(), progress=False)


def test_a_variant_writes_only_what_differs() -> None:
    base = given(same={}, wide={"width": 24}, slow={"training": {"lr": 1e-5}}, bert={"system": "bert", "depth": 1})
    made = variants(base)
    assert made["same"].design == base.design
    assert made["wide"].design == {**base.design, "width": 24}
    assert (made["slow"].training.lr, made["slow"].training.batch) == (1e-5, base.training.batch)
    assert made["bert"].design == {"system": "bert", "width": 16, "depth": 1, "heads": 2, "dropout": 0.1}


def test_a_system_stands_for_itself_with_the_options_that_it_knows() -> None:
    base = given()
    base.design |= {"size": "nano", "length": 9}
    (made,) = variants(base, ["llama"]).values()
    assert made.design == {"system": "llama", "width": 16, "depth": 2, "heads": 2, "dropout": 0.1}


@pytest.mark.parametrize(
    ("base", "chosen", "message"),
    [
        (given(), None, "names no designs to compare"),
        (given(one={}), ["on"], "unknown design 'on'; did you mean 'one'"),
        (given(one={"training": {"step": 3}}), None, r"unknown key of compare.designs.one.training 'step'"),
    ],
)
def test_what_is_wrong_is_named(base: Any, chosen: list[str] | None, message: str) -> None:
    with pytest.raises(EveryformerError, match=message):
        variants(base, chosen)


def test_a_variant_may_cut_the_same_text_another_way(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a rose is a rose is a rose.\n" * 60)
    chosen = recipe(steps=1)
    chosen.task, chosen.design = "language-modelling", {"system": "llama", "width": 16, "depth": 1, "heads": 2}
    chosen.data = {"path": str(tmp_path / "text.txt"), "tokens": "bytes", "length": 16, "fractions": [0.8, 0.1, 0.1]}
    chosen.compare = {
        "figures": ["bits_per_byte", "perplexity"],
        "designs": {"bytes": {}, "words": {"data": {"tokens": "words", "vocabulary": 264, "length": 8}}},
    }
    results = compare(chosen, tmp_path / "runs", progress=False)
    assert columns(results)[1:3] == ["bits_per_byte", "perplexity"]
    assert [cells(each)[1] for each in results] == [f"{each['metrics']['bits_per_byte']:.4f}" for each in results]
    assert ranked(results)[0]["metrics"]["bits_per_byte"] == min(each["metrics"]["bits_per_byte"] for each in results)
    assert scored_on(results).startswith("test part")
    assert {each["better"] for each in results} == {"min"}
    chosen.compare["figures"] = ["bits"]
    with pytest.raises(UnknownName, match="unknown figure"):
        compare(chosen, tmp_path / "runs", progress=False)


def test_the_more_facts_are_found_the_higher_a_design_ranks() -> None:
    ways = {figure: LanguageModelling.direction(figure) for figure in ("bits_per_byte", "recall@512", "passkey@2048")}
    assert ways == {"bits_per_byte": "min", "recall@512": "max", "passkey@2048": "max"}
    results = [
        {"figures": ["recall@512"], "better": "max", "metrics": {"recall@512": each}} for each in (0.1, 0.9, 0.5)
    ]
    assert [each["metrics"]["recall@512"] for each in ranked(results)] == [0.9, 0.5, 0.1]


def test_a_misspelt_key_of_compare() -> None:
    base = recipe()
    base.compare = {"design": {}}
    with pytest.raises(UnknownName, match="unknown key of compare 'design'; did you mean 'designs'"):
        variants(base)


def test_a_design_that_does_not_fit_stops_all_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit, match="design 'odd'"):
        compare(given(gpt={}, odd={"heads": 3}), tmp_path, task=Sums(), progress=False)
    assert not list(tmp_path.glob("*/model.safetensors"))


def test_designs_of_other_shares_of_the_data_are_scored_on_the_same_samples(tmp_path: Path) -> None:
    """And the page says so, and draws a line a system."""
    few = {"train_share": 0.05}
    convs = {"system": "convmixer", "patch": 4, "kernel": 3}
    chosen = load_recipe("data-regimes", ("training.steps=2", "design.width=8", "design.depth=1", "design.patch=4"))
    chosen.compare = {"designs": {
        "few": {"data": few}, "all": {}, "convs": {**convs, "data": few},
    }}  # fmt: skip
    results = compare(chosen, tmp_path, progress=False)
    few_of_it, all_of_it, again = (result["trained_on"] for result in results)
    assert few_of_it == again == pytest.approx(0.05 * all_of_it, abs=5)
    assert [result["system"] for result in results] == ["vit", "vit", "convmixer"]
    assert len({result["hash"] for result in results}) == 1
    page = write_report(chosen, results, tmp_path / "report.html").read_text()
    assert f"shares of\nthe same data ({few_of_it}, {all_of_it} samples)" in page
    assert "accuracy against training samples" in page


def test_options_of_another_type_are_left_to_the_system() -> None:
    """`heads` of a pyramid is a list, which a number does not stand for."""
    (made,) = variants(given(), ["swin"]).values()
    assert made.design == {"system": "swin", "width": 16, "dropout": 0.1}
