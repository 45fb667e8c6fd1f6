"""What the benchmarks share: contenders timed in turns in one run, and a report that says where it was made."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

OURS = "everyformer"
WARM_UP = 2


def in_turns(
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
    warm_up: int = WARM_UP,
) -> dict[str, list[float]]:
    """Seconds of each run of each contender; each turn runs all of them, another one first each time.

    Processor time of one thread by default, so that what else runs on the machine counts little.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + warm_up):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            contenders[name]()
            if turn >= warm_up:
                seconds[name].append(clock() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """The median of the ratios, turn by turn."""
    return round(statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True)), 4)


def milliseconds(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each contender."""
    return {name: round(statistics.median(each) * 1e3, 3) for name, each in seconds.items()}


def against_fastest(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """The median of each, and how many times as fast ours is as the fastest of the others."""
    found = milliseconds(seconds)
    fastest = min((name for name in found if name != OURS), key=found.__getitem__)
    return {"milliseconds": found, "fastest_peer": fastest, "times_as_fast": ratio(seconds, fastest, OURS)}


def write(script: str, *packages: str, **report: Any) -> None:
    """The report beside its script, with the versions of `packages` and the machine."""
    told = {
        "command": f"python -m benchmarks.{Path(script).stem}",
        **report,
        "threads": torch.get_num_threads(),
        "precision": f"processor used as {torch.backends.cpu.get_cpu_capability()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("everyformer", "torch", *packages)},
    }
    path = Path(script).with_suffix(".json")
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"kept in {path}")
