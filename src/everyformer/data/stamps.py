"""Times of a series: what a model is told of them, and those that follow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput

MARKS = 4
"""Hour, day of week, day of month, day of year."""


def is_time(value: Any) -> bool:
    """Whether a value is a time or a text."""
    return isinstance(value, (str, date, datetime))


def moment(value: Any, column: str) -> datetime:
    """A time as `datetime`; texts are ISO 8601."""
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise BadInput(
            f"{value!r} in the column '{column}' is no time; write it as 2026-01-31 or 2026-01-31 12:00:00"
        ) from None


def marks_of(times: Sequence[Any], column: str) -> Float[Tensor, "T 4"]:
    """Hour, day of week, of month and of year, each from -0.5 to 0.5 (Zhou et al., Informer, 2021)."""
    found = [moment(value, column) for value in times]
    return torch.tensor([
        [t.hour / 23 - 0.5, t.weekday() / 6 - 0.5, (t.day - 1) / 30 - 0.5, (t.timetuple().tm_yday - 1) / 365 - 0.5]
        for t in found
    ])  # fmt: skip


def next_times(times: Sequence[Any], count: int) -> list[str]:
    """The times after the last one, as far apart as the last two."""
    last, before = moment(times[-1], "time"), moment(times[-2], "time")
    return [(last + (last - before) * (step + 1)).isoformat(sep=" ") for step in range(count)]
