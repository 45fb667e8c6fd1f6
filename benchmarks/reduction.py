"""Throughput, and accuracy where a run is given, of every reduction beside the plain model, paired in one run.

python benchmarks/reduction.py [RUN] [--batches 1 32] [--keeps 0.9 0.7 0.5] [--out benchmarks/reduction.json]

Without a run: a ViT of DeiT-small's shape with 196 tokens and random weights, for times alone. With one: its own model,
scored on the validation part of its data.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.designs import design_of
from everyformer.reduction import reduced
from everyformer.reduction.applying import seconds
from everyformer.training import Run
from everyformer.training.speedup import TRAINING_FREE, data_of


def variants(model: nn.Module, keeps: list[float]) -> dict[str, nn.Module]:
    """The model, and a copy with each reduction at each share kept, at three depths."""
    made = {"as it is": model}
    for part in TRAINING_FREE:
        made |= {f"{part.__name__} {keep}": reduced(model, ef.spec(part, keep=keep)) for keep in keeps}
    return made


def inputs(model: Any, batch: int) -> dict[str, torch.Tensor]:
    """Random inputs of the kind that the model takes."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in model.example(batch).items()
    }


def measure(model: nn.Module, batches: list[int], keeps: list[float], repeats: int, run: Run | None) -> list[Any]:
    """A row a variant; the plain model is timed again beside each, so that a slow moment strikes both."""
    task = None if run is None else data_of(run, None)
    whole = flops(on_meta(design_of(model)))[""]
    rows = []
    for name, made in variants(model, keeps).items():
        row: dict[str, Any] = {"name": name, "flops": flops(on_meta(design_of(made)))[""] / whole}
        if task is not None:
            row[task.metric] = task.evaluate(made, "valid").metrics[task.metric]
        for batch in batches:
            given = inputs(model, batch)
            plain, ours = seconds(model, given, repeats), seconds(made, given, repeats)
            row[f"seconds at {batch}"], row[f"speed at {batch}"] = ours, plain / ours
        rows.append(row)
        print(", ".join(f"{key} {value:.4g}" if isinstance(value, float) else value for key, value in row.items()))
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--keeps", nargs="+", type=float, default=[0.9, 0.7, 0.5])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/reduction.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = None if options.run is None else Run.open(options.run)
    model = ef.create("vit", "small", image=112, patch=8, classes=10, seed=0).eval() if run is None else run.model
    rows = measure(model, options.batches, options.keeps, options.repeats, run)
    facts = {"torch": torch.__version__, "processor": platform.processor(), "threads": 1}
    options.out.write_text(json.dumps({**facts, "run": str(options.run or ""), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
