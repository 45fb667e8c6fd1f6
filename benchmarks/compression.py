"""What each way to make a trained model smaller costs and gains, alone and on top of each other: quality, bytes, time.

    python -m benchmarks.compression MODEL [MODEL ...] [--batch 32] [--samples 128]

A MODEL is the folder of a run, or `minilm`: all-MiniLM-L6-v2 on the titles of AG News (`retrieval.Titles`). Figures are on
the validation part, or the test part where there is none; a stack that does not fit a model is told with its reason.
Processor time of one thread.

The models that the page shows come from

    everyformer train python data.tokens=bpe design.width=320 design.depth=8 design.heads=8 --out runs/python
    everyformer train multi30k --out runs/multi30k
    everyformer compare cifar10 --designs cct,vit --out runs/cifar10    # its vit
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.paired import write
from benchmarks.retrieval import opened
from everyformer.costs import parameters
from everyformer.data import Task
from everyformer.training import Run
from everyformer.training.shrinking import Step, compared
from everyformer.training.speedup import data_of

ENCODER = "minilm"
WEIGHTS = (
    "rtn,bits=8", "llm-int8", "smoothquant", "os-plus", "rtn,bits=4,group=32", "awq,bits=4,group=32", "gptq,bits=4,group=32",
    "rtn,bits=3,group=32", "gptq,bits=3,group=32", "wanda", "sparsegpt", "sparsegpt,of=4",
)  # fmt: skip
"""Methods on the linear maps of any model."""
TOKENS = ("tome,keep=0.7", "pitome,keep=0.7", "zerotprune,keep=0.7")
"""Fewer tokens, where no text is written."""
CACHES = (
    "sinks,sinks=4,window=60",
    "tova,keep=0.5",
    "h2o,keep=0.5",
    "keyformer,keep=0.5",
    "kivi,bits=4,group=16,residual=16",
)
"""Smaller caches, and several tokens at once, where text is written."""
AT_ONCE = ("jacobi,block=5", "lookahead")
READING = (("smoothquant", "zerotprune,keep=0.7"), ("gptq,bits=4,group=32", "tome,keep=0.7"))
WRITING = (
    ("gptq,bits=4,group=32", "tova,keep=0.5"), ("smoothquant", "tova,keep=0.5"), ("gptq,bits=4,group=32", "kivi,bits=4,group=16,residual=16", "tova,keep=0.5"),
    ("smoothquant", "jacobi,block=5"),
)  # fmt: skip
"""The stacks."""


def stacks(task: Task) -> list[tuple[Step, ...]]:
    """What is tried on the models of a task."""
    alone = [*WEIGHTS, *(CACHES + AT_ONCE if task.generates else TOKENS)]
    written = [*((each,) for each in alone), *(WRITING if task.generates else READING)]
    return [tuple(map(Step.read, each)) for each in written]


def model_of(name: str, articles: int) -> tuple[nn.Module, Any, str]:
    """A model, its data, and what it is."""
    if name == ENCODER:
        return *opened(articles), "all-MiniLM-L6-v2"
    run = Run.open(name)
    return run.model, data_of(run, None), f"{run.recipe.name} ({run.design.name}, {parameters(run.model) / 1e6:.2g} M)"


def lines(name: str, articles: int, **options: Any) -> Iterator[dict[str, Any]]:
    """A line for the model, and one for each method and stack."""
    model, task, told = model_of(name, articles)
    options["split"] = "valid" if task.size("valid") else "test"
    for found in compared(model, task, stacks(task), **options):
        yield {"model": told, **{key: value for key, value in asdict(found).items() if value is not None}}


def main() -> None:
    """Measure, print and write `benchmarks/compression.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--articles", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path(__file__))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name in given.models:
        for line in lines(name, given.articles, batch=given.batch, samples=given.samples):
            print(line, flush=True)
            found.append(line)
    write(str(given.out), batch=given.batch, samples=given.samples, lines=found)


if __name__ == "__main__":
    main()
