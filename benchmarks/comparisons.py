"""What `everyformer compare` said, kept beside the benchmarks.

    everyformer compare longtext training.seconds=40 training.batch=1 --out runs/longtext
    python -m benchmarks.comparisons "longtext training.seconds=40 training.batch=1" runs/longtext

The command, less its beginning, and the folder that it wrote; what is kept of another command stays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from everyformer.report.comparison import ranked

KEPT = Path(__file__).with_suffix(".json")


def lines(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each design, the best first."""
    return [
        {
            "design": each["name"],
            **{name: round(each["metrics"][name], 4) for name in each["figures"]},
            "parameters": each["parameters"],
            "MFLOPs a sample": round(each["flops"] / 1e6, 2) if each["flops"] else None,
            "steps": each["steps"],
            "training seconds": each["training_seconds"],
            "latency ms": round(each["latency_ms"], 2),
        }
        for each in ranked(results)
    ]


def main() -> None:
    """Read a comparison and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("asked", help="the recipe and what was overridden")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    results = json.loads((given.folder / "compare.json").read_text())
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    name = given.asked.split()[0]
    kept[name] = {
        "command": f"everyformer compare {given.asked}",
        "threads": results[0]["threads"],
        "versions": results[0]["versions"],
        "samples": results[0]["samples"],
        "lines": lines(results),
    }
    KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    print(f"{name}: {len(results)} designs, kept in {KEPT}")


if __name__ == "__main__":
    main()
