"""Kill a training with SIGKILL at random moments, resume it each time, and compare it with one never interrupted.

    python benchmarks/kills.py --kills 20 --out benchmarks/kills.json

Each kill falls a random time after the process has saved once more, so that it lands anywhere in a step or a save.
Exit status 1 if the weights differ by a bit or a file was left damaged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning_fabric  # noqa: F401  the processes inherit it
import torch

from everyformer.data import Task, find_task
from everyformer.recipe import Recipe, Training
from everyformer.training import checkpoints, train
from everyformer.training.files import hash_of
from everyformer.training.run import WEIGHTS, versions


def recipe(steps: int, workers: int) -> Recipe:
    """A small run on the digits with everything in it that a checkpoint must hold."""
    training = Training(
        steps=steps, batch=16, accumulate=2, ema=0.95, lr=2e-3, precision="fp32", workers=workers, threads=1,
        checkpoint_every=1, evaluate_every=7, seed=1,
    )  # fmt: skip
    design = {"system": "cct", "width": 16, "depth": 1, "heads": 2, "hidden": 16, "dropout": 0.1}
    return Recipe("kills", "image-classification", {"source": "digits", "shift": 1}, design, {}, training)


def measure(kills: int, *, seed: int, workers: int, say: Any = print) -> dict[str, Any]:
    """Train once in peace and once with `kills` deaths."""
    began = time.perf_counter()
    given = recipe(3 * kills + 6, workers)
    task = find_task(given.task).open(**given.data)
    chance = random.Random(seed)
    died = during_save = damaged = 0
    with tempfile.TemporaryDirectory() as place:
        whole, broken = Path(place, "whole"), Path(place, "broken")
        started = time.perf_counter()
        _live(given, whole, task).join()
        pace = (time.perf_counter() - started) / (given.training.steps or 1)
        while True:
            process = _live(given, broken, task)
            if died < kills and _saved_once_more(process, broken):
                time.sleep(chance.uniform(0, pace))
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            if process.exitcode == 0:
                break
            if process.exitcode != -signal.SIGKILL:
                raise SystemExit(f"the training ended by itself with status {process.exitcode}")
            died += 1
            during_save += any((broken / "checkpoints").glob(".new-*"))
            found: list[str] = []
            checkpoints.newest(broken / "checkpoints", found.append)
            damaged += len(found)
            say(f"killed {died} of {kills}, {during_save} of them while saving")
        equal = hash_of(whole / WEIGHTS) == hash_of(broken / WEIGHTS)
    return {
        "kills": died, "during_save": during_save, "damaged_checkpoints": damaged, "weights_equal_bit_for_bit": equal,
        "steps": given.training.steps, "workers": workers, "seed": seed, "task": "digits",
        "training": dataclasses.asdict(given.training), "seconds": round(time.perf_counter() - began, 1),
        "versions": versions(),
    }  # fmt: skip


def _live(given: Recipe, folder: Path, task: Task) -> Any:
    """Train in a process of its own, from the last checkpoint on."""
    process = multiprocessing.get_context("fork").Process(
        target=train, args=(given, folder), kwargs={"resume": True, "progress": False, "task": task}
    )
    process.start()
    return process


def _saved_once_more(process: Any, folder: Path) -> bool:
    """Wait until the process saves; whether it is alive then."""
    before = _newest(folder)
    while process.is_alive():
        if _newest(folder) != before:
            return True
        time.sleep(0.002)
    return False


def _newest(folder: Path) -> str:
    return max((each.name for each in (folder / "checkpoints").glob("step-*")), default="")


def main() -> None:
    """Read the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(given.kills, seed=given.seed, workers=given.workers, say=lambda line: print(line, file=sys.stderr))
    print(json.dumps(result, indent=2))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=2) + "\n")
    if result["kills"] < given.kills:
        sys.exit(f"the training ended after {result['kills']} kills; its steps are too short for this machine")
    sys.exit(0 if result["weights_equal_bit_for_bit"] and not result["damaged_checkpoints"] else 1)


if __name__ == "__main__":
    main()
