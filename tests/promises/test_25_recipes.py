"""Promise 25: a variant's recipe holds only its differences, says where each value came from, and misspells nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import everyformer as ef
from everyformer.recipe import flatten, from_plain, known_recipes, load_recipe

BASE = """
task: image-classification
data: {source: digits, size: 8}
design: {system: vit, width: 32, heads: 4}
training: {steps: 100, lr: 1e-3, betas: [0.9, 0.95]}
"""


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_variant_holds_only_what_differs(tmp_path: Path) -> None:
    written(
        tmp_path,
        base=BASE,
        wide="inherit: base\ndesign: {width: 64}\n",
        wider="inherit: wide\ndesign: {width: 128}\ntraining: {lr: 3e-4}\n",
    )
    recipe = load_recipe(tmp_path / "wider.yaml", ["training.steps=7", "design.depth=2", "data.size=16"])
    assert recipe.name == "wider"
    assert recipe.design == {"system": "vit", "width": 128, "heads": 4, "depth": 2}
    assert (recipe.training.steps, recipe.training.lr, recipe.training.betas) == (7, 3e-4, [0.9, 0.95])
    assert recipe.origins["design.system"] == "base.yaml"
    assert recipe.origins["design.width"] == "wider.yaml"
    assert recipe.origins["training.steps"] == "command line"
    text = recipe.explain()
    assert "design.width = 128    # wider.yaml" in text
    assert "design.heads = 4    # base.yaml" in text
    assert "data.size = 16    # command line" in text
    assert "training.clip = 1.0    # default" in text
    assert from_plain(recipe.to_plain()).to_plain() == recipe.to_plain()


MISTAKES: list[tuple[str, list[str], str]] = [
    ("trainin: {steps: 3}", [], "unknown key 'trainin' in own.yaml; did you mean 'training'"),
    ("training: {step: 3}", [], "unknown key 'training.step' in own.yaml; did you mean 'steps'"),
    ("steps: 3", [], "unknown key 'steps' in own.yaml"),
    ("training: {steps: three}", [], "training.steps takes int or nothing; own.yaml gives 'three'"),
    ("training: {steps: 3, compile: 1}", [], "training.compile takes bool; own.yaml gives 1"),
    ("training: 3", [], "'training' holds options by name"),
    ("data: digits", [], "'data' holds options by name, such as data.option=value; own.yaml gives 'digits'"),
    ("- 1", [], "a recipe is a mapping"),
    ("a: [", [], "is not YAML"),
    ("", [], "does not say how long to train"),
    ("inherit: bse\ntraining: {steps: 3}", [], "unknown recipe 'bse'"),
    ("inherit: own", [], "inherits from itself"),
    ("training: {lr: 0.1}", [], "does not say how long to train"),
    ("training: {steps: 1}", ["training.lrr=3"], "unknown key 'training.lrr' in command line; did you mean 'lr'"),
    ("training: {steps: 1}", ["training.steps"], "'training.steps' is not an override; write key=value"),
    ("training: {steps: 1}", ["=3"], "is not an override"),
    ("training: {steps: 1}", ["training.steps=many"], "training.steps takes int or nothing; command line gives 'many'"),
    ("training: {steps: 1}\ndesign: {width: '${nowhere}'}", [], "Interpolation key 'nowhere' not found"),
]


@pytest.mark.parametrize(("text", "overrides", "message"), MISTAKES, ids=[f"{t} {o}" for t, o, _ in MISTAKES])
def test_a_mistake_stops_the_run_with_the_nearest_known_key(
    tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    written(tmp_path, own=text)
    with pytest.raises(ef.EveryformerError) as error:
        load_recipe(tmp_path / "own.yaml", overrides)
    assert message in str(error.value)


def test_no_such_recipe() -> None:
    with pytest.raises(ef.EveryformerError, match=r"no recipe at 'nowhere\.yaml'"):
        load_recipe("nowhere.yaml")
    with pytest.raises(ef.EveryformerError, match="unknown recipe 'digit'; did you mean 'digits'"):
        load_recipe("digit")


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_that_comes_along_resolves(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.task
    assert recipe.design.get("system") in ef.systems()
    said: dict[str, Any] = dict(flatten(recipe.to_plain()))
    assert set(recipe.origins) <= {*said, *(key.rpartition(".")[0] for key in said)}
