"""Checkpoints: folders of safetensors and JSON that are whole, known by their hashes, or passed over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from everyformer.training import shards
from everyformer.training.files import delete_folder, flush_folder, full_disk_stops, hash_of, write_bytes, write_tensors

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Checkpoint:
    """A run after so many steps."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    fabric: Fabric | None = None,
) -> Path:
    """Write `folder`/step-0000123: first beside its place, then renamed, so that it is whole or absent.

    Of a run that is cut over the processes of `fabric` all call this, and each writes its pieces.
    """
    target = folder / f"step-{step:07d}"
    fresh = folder / f".new-{target.name}"
    first = fabric is None or fabric.is_global_zero
    with full_disk_stops(folder, f"the checkpoint of step {step}"):
        try:
            if first:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir()
            if fabric is not None:
                fabric.barrier()
                shards.save(fresh / shards.FOLDER, tensors)
            if first:
                if fabric is None:
                    hashes = {
                        f"{name}.safetensors": write_tensors(fresh / f"{name}.safetensors", t)
                        for name, t in tensors.items()
                    }
                else:
                    hashes = {
                        str(path.relative_to(fresh)): hash_of(path) for path in sorted(fresh.rglob("*.safetensors"))
                    }
                text = json.dumps({"step": step, "state": dict(state), "sha256": hashes}, indent=1)
                write_bytes(fresh / "state.json", text.encode())
                flush_folder(fresh)
                delete_folder(target)
                fresh.rename(target)
                flush_folder(folder)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    return target


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what a crash left of others."""
    for old in _folders(folder)[keep:]:
        delete_folder(old)
    for left in folder.glob(".*-step-*"):
        shutil.rmtree(left, ignore_errors=True)


def newest(folder: Path, say: Callable[[str], None], models: Mapping[str, Tensor] = {}) -> Checkpoint | None:
    """The newest checkpoint that is whole; each one passed over is told in a line.

    Tensors of one that was cut over processes are read as those of `models` of the same name are cut, else whole.
    """
    for each in _folders(folder):
        fault, found = _read(each, models)
        if found is not None:
            return found
        say(f"checkpoint {each.name} is passed over: {fault}")
    return None


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _read(folder: Path, models: Mapping[str, Tensor]) -> tuple[str, Checkpoint | None]:
    from safetensors.torch import load_file

    try:
        held = json.loads((folder / "state.json").read_text())
        hashes = held["sha256"]
        step, state = held["step"], held["state"]
    except FileNotFoundError:
        return "it has no state.json", None
    except (ValueError, KeyError, TypeError):
        return "its state.json is damaged", None
    for name, expected in hashes.items():
        if not (folder / name).is_file():
            return f"{name} is missing", None
        if hash_of(folder / name) != expected:
            return f"{name} is damaged", None
    if any(name.startswith(shards.FOLDER) for name in hashes):
        return "", Checkpoint(step, state, shards.load(folder / shards.FOLDER, models))
    return "", Checkpoint(step, state, {name.removesuffix(".safetensors"): load_file(folder / name) for name in hashes})
