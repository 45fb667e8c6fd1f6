"""What a number format gains and loses on trained runs: the score on their test data, seconds, and bytes, side by side.

    python -m benchmarks.precision RUN [RUN ...] [--repeats 5] [--batch 32]

Times are of forward passes over one batch of the run's own test data, in turns, in processor time of one thread.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.paired import in_turns, milliseconds, ratio, write
from everyformer.costs import memory
from everyformer.data import find_task
from everyformer.training import Run

FORMATS = ("fp32", "bf16")


def measure(folder: Path, batch: int, repeats: int) -> list[dict[str, Any]]:
    """A line for each format."""
    runs = {name: Run.open(folder, precision=name) for name in FORMATS}
    recipe = runs["fp32"].recipe
    task = find_task(recipe.task).open(**recipe.data)
    fields = {name: value for name, value in task.batch("test", range(batch)).items() if name != "labels"}
    with torch.no_grad():
        times = in_turns({name: partial(run.model, **fields) for name, run in runs.items()}, repeats)
    lines = []
    for name, run in runs.items():
        score = task.evaluate(run.model, "test", decoding=dict(recipe.decoding))
        lines.append({
            "run": recipe.name, "parameters": run.result["parameters"], "format": name, "metric": task.metric,
            "score": round(score.metrics[task.metric], 4), "ms": milliseconds(times)[name],
            "times_as_fast": ratio(times, "fp32", name), "bytes": memory(run.model),
        })  # fmt: skip
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Measure, print and write `benchmarks/precision.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = [line for run in given.runs for line in measure(run, given.batch, given.repeats)]
    write(__file__, batch=given.batch, repeats=given.repeats, lines=lines)


if __name__ == "__main__":
    main()
