"""Tasks: what is learnt, from what data, with every transform both ways."""

from __future__ import annotations

from pathlib import Path

from everyformer.data.task import Score, Task, find_task, known_tasks


def load_task(folder: str | Path) -> Task:
    """The task that was saved in `folder`, transforms only."""
    from everyformer.data.task import read_state

    return find_task(read_state(Path(folder))["name"]).load(folder)


__all__ = ["Score", "Task", "find_task", "known_tasks", "load_task"]
