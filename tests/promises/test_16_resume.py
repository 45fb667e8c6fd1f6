"""Promise 16: a run killed at any moment, while saving too, goes on and ends as if it had not been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"


def killed(out: Path, kills: int, workers: int) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, "--kills", str(kills), "--workers", str(workers), "--out", out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return json.loads(out.read_text())


def test_killed_three_times(tmp_path: Path) -> None:
    result = killed(tmp_path / "kills.json", 3, workers=0)
    assert result["weights_equal_bit_for_bit"]
    assert (result["kills"], result["damaged_checkpoints"]) == (3, 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_twenty_times(tmp_path: Path, workers: int) -> None:
    result = killed(tmp_path / "kills.json", 20, workers)
    assert result["weights_equal_bit_for_bit"]
    assert (result["kills"], result["damaged_checkpoints"]) == (20, 0)
