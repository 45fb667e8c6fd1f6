"""How evidence is registered, run and kept."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everyformer.errors import EveryformerError, UnknownName
from everyformer.registry import find_published, import_all

KINDS = ("learns", "claim")
VERDICTS = ("holds", "does not hold at this scale", "needs a GPU")


def verdict(holds: bool) -> str:
    """The verdict on a claim that was tried."""
    return VERDICTS[0] if holds else VERDICTS[1]


@dataclass(frozen=True)
class Finding:
    """What an experiment found."""

    verdict: str
    finding: str
    """One sentence with the figures that decide."""
    figures: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UnknownName("verdict", self.verdict, VERDICTS)


@dataclass(frozen=True)
class Experiment:
    """A claim and the smallest experiment that could refute it."""

    system: str
    kind: str
    """'learns' (beats a baseline on real data) or 'claim' (the paper's headline)."""
    claim: str
    run: Callable[[], Finding]
    long: bool


_experiments: dict[str, list[Experiment]] = {}


def evidence(
    system: str, *, kind: str, claim: str, long: bool = False
) -> Callable[[Callable[[], Finding]], Callable[[], Finding]]:
    """Function decorator: the function is an experiment about `system`; `long` ones take over five minutes."""

    def register(run: Callable[[], Finding]) -> Callable[[], Finding]:
        _experiments.setdefault(system, []).append(Experiment(system, kind, claim, run, long))
        return run

    return register


def known() -> dict[str, list[Experiment]]:
    """The experiments of every system that has some."""
    import_all("evidence")
    return dict(sorted(_experiments.items()))


def kept(name: str, folder: Path = Path("evidence")) -> dict[str, Any] | None:
    """The evidence of a system as it was last gathered, from the folder or from what the library ships."""
    for place in (folder, Path(__file__).parents[3] / "evidence"):
        if (place / f"{name}.json").is_file():
            return json.loads((place / f"{name}.json").read_text())
    return None


def gather(name: str, folder: Path, *, long: bool = False, kind: str | None = None) -> dict[str, Any]:
    """Run the experiments of a system, all or those of a kind, and write them to `folder`/`name`.json; those not run keep
    their last figures."""
    if kind not in (None, *KINDS):
        raise UnknownName("kind of experiment", kind, KINDS)
    experiments = known().get(name)
    if experiments is None:
        find_published(name)
        raise EveryformerError(f"no evidence is written for '{name}' yet; known: {', '.join(known())}")
    before = {each["claim"]: each for each in (kept(name, folder) or {}).get("results", [])}
    results = []
    for each in experiments:
        if (each.long and not long) or kind not in (None, each.kind):
            if each.claim in before:
                results.append(before[each.claim])
            continue
        started = time.perf_counter()
        found = each.run()
        results.append(
            {
                "kind": each.kind, "claim": each.claim, "verdict": found.verdict, "finding": found.finding,
                "figures": found.figures, "seed": found.seed, "seconds": round(time.perf_counter() - started, 1),
                "versions": versions(),
            }
        )  # fmt: skip
    gathered = {"system": name, "results": results}
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{name}.json"
    fresh.write_text(json.dumps(gathered, indent=2, ensure_ascii=False) + "\n")
    fresh.replace(folder / f"{name}.json")
    return gathered


def versions() -> dict[str, str]:
    """What an experiment ran on."""
    import torch

    from everyformer import __version__

    return {
        "everyformer": __version__, "torch": torch.__version__, "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
    }  # fmt: skip
