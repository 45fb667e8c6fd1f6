"""Surgery on checkpoints: what each change of a loaded model costs in quality and gains in time, paired in one run.

    python -m benchmarks.surgery [--gpt RUN] [--vit RUN] [--articles 500] [--batch 32]

all-MiniLM-L6-v2 reads AG News; `recall_at_1` is the share of titles that find their own text among all (`retrieval.Titles`).
A GPT and a ViT that our recipes trained are written with `export --to hf` and opened again with `ef.load`; without RUN,
short runs of the recipes shakespeare and digits. Processor time of one thread.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import everyformer as ef
from benchmarks.paired import write
from benchmarks.retrieval import Packed, opened
from everyformer.costs import parameters
from everyformer.interop import to_folder
from everyformer.masks import Window
from everyformer.recipe import load_recipe
from everyformer.reduction import reduced
from everyformer.training import Run, train
from everyformer.training.shrinking import Changed, Step, compared
from everyformer.training.speedup import data_of

LEARNT: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "shakespeare": ({"system": "gpt", "size": "nano", "bias": True}, ("training.steps=600",)),
    "digits": ({"system": "vit", "patch": 2, "width": 64, "depth": 4, "heads": 4}, ("training.epochs=20",)),
}
"""Short runs, where none is given."""
BEFORE = 15
"""Tokens before each that a window lets it see."""


def fewer_layers(model: nn.Module, kept: int) -> nn.Module:
    """The first blocks alone."""
    made = copy.deepcopy(model)
    for last in range(len(made.backbone.blocks) - 1, kept - 1, -1):
        ef.remove(made, f"backbone.blocks.{last}")
    return made


def windowed(model: nn.Module) -> nn.Module:
    """Sliding windows in place of full attention; all weights stay."""
    return ef.resize(copy.deepcopy(model), "backbone.blocks.*.mixer.mask", Window(BEFORE))


CHANGES: dict[str, tuple[Step, ...]] = {
    "all-MiniLM-L6-v2": (
        Changed("packed, without padding", Packed),
        Step.read("llm-int8"),
        Step.read("smoothquant"),
        Changed("the first 5 of 6 layers", partial(fewer_layers, kept=5)),
        Changed("the first 4 of 6 layers", partial(fewer_layers, kept=4)),
        Step.read("pitometext,keep=0.7"),
        Step.read("zerotprune,keep=0.7"),
    ),
    "GPT-2": (Changed(f"windows of {BEFORE + 1}", windowed), Step.read("tova,keep=0.5"), Step.read("kivi,bits=4,group=16,residual=16")),
    "ViT": (
        Changed("ToMe after the first block, half of the tokens", lambda m: reduced(m, ef.spec(ef.reduction.ToMe, keep=0.5), [1])),
        Step.read("llm-int8"),
    ),
}  # fmt: skip


def learnt(recipe: str, folder: Path | None) -> tuple[nn.Module, Any]:
    """A run's model as a checkpoint of transformers that was opened again, and the run's data."""
    with tempfile.TemporaryDirectory() as beside:
        design, given = LEARNT[recipe]
        loaded = dataclasses.replace(load_recipe(recipe, (*given, "training.threads=1")), design=design)
        run = Run.open(folder) if folder else train(loaded, Path(beside) / "run", progress=False)
        to_folder(run.model, Path(beside) / "hf")
        return ef.load(Path(beside) / "hf"), data_of(run, None)


def lines(name: str, model: nn.Module, task: Any, batch: int) -> Iterator[dict[str, Any]]:
    """A line for the model, and one for each change."""
    for found in compared(model, task, [(step,) for step in CHANGES[name]], samples=32, batch=batch):
        size = f"{name} ({parameters(model) / 1e6:.2g} M, {task.name})"
        yield {"model": size, **{key: value for key, value in dataclasses.asdict(found).items() if value is not None}}


def main() -> None:
    """Open, change, measure, and write `benchmarks/surgery.json`."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gpt", type=Path)
    options.add_argument("--vit", type=Path)
    options.add_argument("--articles", type=int, default=500)
    options.add_argument("--batch", type=int, default=32)
    given = options.parse_args()
    torch.set_num_threads(1)
    models = {
        "all-MiniLM-L6-v2": opened(given.articles),
        "GPT-2": learnt("shakespeare", given.gpt),
        "ViT": learnt("digits", given.vit),
    }
    found = []
    for name, (model, task) in models.items():
        for line in lines(name, model, task, given.batch):
            print(line, flush=True)
            found.append(line)
    write(__file__, articles=given.articles, batch=given.batch, lines=found)


if __name__ == "__main__":
    main()
