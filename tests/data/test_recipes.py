"""Every recipe that comes with the library, and each on a user's own files by its `data.path` alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from everyformer.contracts import Mixer
from everyformer.data import find_task
from everyformer.data.decoding import Decoding
from everyformer.data.options import read_options
from everyformer.recipe import known_recipes, load_recipe
from everyformer.registry import find_system, parts
from everyformer.training.compare import variants
from everyformer.training.designing import design_for
from support.tiny_data import (
    boxed,
    captioned,
    depths,
    masked,
    pairs,
    pictures,
    related,
    roads,
    sentence,
    series,
    sounds,
    table,
)  # fmt: skip

RECIPES = sorted(known_recipes())
LONG = ("longtext", "recall")
"""Those that take more text."""


def own(name: str, folder: Path) -> str:
    """A user's data for a recipe's task."""
    random = np.random.default_rng(0)
    task = load_recipe(name).task
    if task == "image-classification":
        return str(pictures(folder, side=8 if name == "digits" else 40, count=30) / "train")
    if task == "detection":
        return str(boxed(folder, (48, 48)))
    if task == "dense-captioning":
        return str(captioned(folder, (64, 64)))
    if task == "segmentation":
        return str(masked(folder, (90, 120), void=11))
    if task == "depth":
        return str(depths(folder, (64, 64)))
    if task == "anomaly-detection":
        for found in sorted(pictures(folder, side=32).glob("*/cat")):
            found.rename(found.with_name("5"))
        return str(folder)
    if task == "object-discovery":
        return str(masked(folder, (48, 48), void=0))
    if task == "lane-detection":
        return str(roads(folder, (32, 32)))
    if task in ("relations", "relations-of-things"):
        return str(related(folder))
    if task == "audio-classification":
        return str(sounds(folder, count=20) / "train")
    if task == "translation":
        folder = pairs(folder)
        for file in folder.iterdir():
            file.write_text(file.read_text().replace('"xx"', '"de"'))
        return str(folder)
    if task == "forecasting":
        return str(series(folder / "mine.csv", 2100))
    if task == "text-classification":
        rows = [{"text": sentence(random), "label": ["sport", "weather"][i % 2]} for i in range(60)]
        return str(table(folder / "mine.csv", rows))
    (folder / "mine.txt").parent.mkdir(parents=True)
    (folder / "mine.txt").write_text("\n".join(sentence(random) for _ in range(400)) * (60 if name in LONG else 1))
    return str(folder / "mine.txt")


@pytest.mark.parametrize("name", RECIPES)
def test_sections_are_those_of_task_system_and_strategy(name: str) -> None:
    recipe = load_recipe(name)
    read_options(find_task(recipe.task).Options, recipe.data)
    assert recipe.task in find_system(recipe.design["system"]).tasks
    Decoding.of(recipe.decoding)


BESIDE = {
    "ChannelMix": "a feedforward",
    "FrontedAttention": "attention where nothing stands in front",
    "PairedAttention": "reads a pair",
    "PlacedAttention": "adds where objects stand",
    "ProjectedAttention": "attention with other maps",
    "RingAttention": "attention over processes",
    "SlimAttention": "attention with a smaller cache",
    "SpikingMLP": "a feedforward",
    "TokenMatrix": "has a weight for each pair of places",
}
"""The mixers that are causal and no rivals."""


@pytest.mark.parametrize("name", ["longtext", "recall"])
def test_all_causal_mixers_are_compared_on_long_texts(name: str) -> None:
    """Each design is made, and no mixer that can be causal is left out."""
    compared = set()
    for each in variants(load_recipe(name), None).values():
        design = design_for(each.design, {"vocabulary": 256, "length": 4096})
        compared |= {spec.part.__name__ for _, spec in design.walk() if issubclass(spec.part, Mixer)}
    causal = {key for key, each in parts("mixers").items() if "causal" in getattr(each, "capabilities", ())}
    alone = {key for key in causal if not {"memory", "grid", "condition"} & parts("mixers")[key].capabilities}
    assert compared == alone - set(BESIDE)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_own_files_with_one_line_changed(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, [f"data.path={own(name, tmp_path / 'own')}"])
    task = find_task(recipe.task).open(**recipe.data)
    assert task.size("valid") > 0
    model = design_for(recipe.design, task.facts).build(seed=0)
    objective = task.objective(**recipe.objective).build()
    before = objective(model, task.batch("train", [0, 1], train=True, seed=1))
    before.total.backward()
    assert before.total.isfinite()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert task.evaluate(model, "valid").samples == task.size("valid")


@pytest.mark.parametrize("name", [name for name in RECIPES if load_recipe(name).compare])
def test_every_design_that_is_compared_can_be_built(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, [f"data.path={own(name, tmp_path / 'own')}"])
    facts = find_task(recipe.task).open(**recipe.data).facts
    for each in variants(recipe).values():
        design_for(each.design, facts).build(device="meta")


@pytest.mark.parametrize("name", ["digits", "python"])
def test_what_is_built_in_needs_no_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERYFORMER_DATA", raising=False)
    recipe = load_recipe(name)
    assert find_task(recipe.task).open(**recipe.data).size("test") > 100


@pytest.mark.skipif("EVERYFORMER_DATA" not in os.environ, reason="EVERYFORMER_DATA is not set")
@pytest.mark.parametrize(
    ("name", "overrides", "sizes", "facts"),
    [
        ("ett", [], [8449, 2785, 2785], {"variates": 7}),
        ("multi30k", [], [29000, 1014, 1000], {"vocabulary": 10000}),
        ("shakespeare", [], [15686, 1743, 0], {"vocabulary": 66}),
        ("spoken_digits", [], [2566, 134, 300], {"classes": 10}),
        ("ag_news", [], [5940, 660, 1000], {"classes": 4}),
        ("cifar10", ["data.limit=60"], [60, 60, 60], {"classes": 10, "image": 32, "channels": 3}),
    ],
)
def test_named_sets_have_their_published_parts(name: str, overrides: list[str], sizes: list[int], facts: dict) -> None:
    recipe = load_recipe(name, overrides)
    task = find_task(recipe.task).open(**recipe.data)
    assert [task.size(split) for split in ("train", "valid", "test")] == sizes
    assert task.facts | facts == task.facts
