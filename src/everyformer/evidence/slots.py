"""Evidence for slots that find the things of a picture by themselves, on rendered rooms.

A frozen random map of the pixels of each patch stands in the place of the paper's trained encoder.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import scored, trained

_LONG = "training.seconds=null"


@cache
def _teacher(orders: int = 9) -> dict[str, Any]:
    """The recipe of slots, cells rebuilt in as many orders."""
    return scored("slots", _LONG, f"design.orders={orders}")


@cache
def _taught() -> dict[str, dict[str, float]]:
    """A run of the recipe, and one that begins elsewhere and is taught by the masks of the first."""
    with trained("slots", _LONG) as teacher:
        student = scored("slots", _LONG, "training.seed=1", f"objective.teacher={teacher.folder}")
        return {"student": student["metrics"], "teacher": teacher.result["metrics"]}


def _shown(figures: dict[str, float]) -> str:
    return f"overlap {figures['mbo']:.3f} and Rand index {figures['ari']:.3f}"


@evidence(
    "spot-object-centric", kind="learns", claim="Its masks are nearer to the things of a room than equal blocks are."
)
def spot_learns() -> Finding:
    """The recipe of slots; as many upright stripes as there are things at most and the ground, as of DINOSAUR's baseline."""
    ours, baseline = _teacher()["metrics"], _teacher()["baseline"]["mbo"]
    finding = f"{_shown(ours)}, of blocks overlap {baseline:.3f}"
    return Finding(verdict(ours["mbo"] > baseline), finding, {"ours": ours, "blocks": baseline})


@evidence(
    "spot-object-centric", kind="claim", claim="Cells in random order make better masks than cells by rows (table 1)."
)
def spot_orders() -> Finding:
    """The same design in nine orders and in one."""
    return _better({"nine orders": _teacher()["metrics"], "by rows": _teacher(1)["metrics"]})


@evidence(
    "spot-object-centric", kind="claim", claim="A student's masks are better than those of its teacher (table 1)."
)
def spot_teaches() -> Finding:
    """The teacher of the other experiments, and a student that begins elsewhere."""
    return _better(_taught())


def _better(figures: dict[str, dict[str, float]]) -> Finding:
    """Whether the first of two overlaps more with the things."""
    first, second = figures.values()
    finding = "; ".join(f"{name}: {_shown(each)}" for name, each in figures.items())
    found: dict[str, Any] = dict(figures)
    return Finding(verdict(first["mbo"] > second["mbo"]), finding, found)
