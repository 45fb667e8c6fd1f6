"""What importing costs: `import everyformer` against `import torch`, each in a fresh process, in turns.

python -m benchmarks.imports [--repeats 11]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import everyformer as ef

BAR = 1.15
USE = "import everyformer as ef; ef.spec, ef.design, ef.create, ef.mixers, ef.backbones"


def seconds(code: str) -> float:
    """Processor seconds of a fresh Python that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print and write `benchmarks/imports.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    kinds = {"import torch": [], "import everyformer": [], USE: []}
    for _ in range(repeats):
        for code, times in kinds.items():
            times.append(seconds(code))
    base = kinds["import torch"]
    report = {
        "bar": BAR, "repeats": repeats, "clock": "processor time", "torch": torch.__version__,
        "everyformer": ef.__version__, "python": platform.python_version(),
        "seconds": {code: round(statistics.median(times), 4) for code, times in kinds.items()},
        "ratio": {
            code: round(statistics.median(a / b for a, b in zip(times, base, strict=True)), 4)
            for code, times in kinds.items()
        },
    }  # fmt: skip
    report["holds"] = max(report["ratio"].values()) <= BAR
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
