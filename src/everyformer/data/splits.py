"""Rows into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from everyformer.data.sources import SPLITS, Rows, Where
from everyformer.errors import EveryformerError

FRACTIONS = (0.8, 0.1, 0.1)


def places(size: int, seed: int, labels: Sequence[Hashable] | None = None) -> np.ndarray:
    """A place in [0, 1) for each row, in random order; where labels are given, evenly within each class."""
    random = np.random.default_rng(seed)
    order = random.permutation(size)
    groups: dict[Hashable, list[int]] = {}
    for row in order.tolist():
        groups.setdefault(labels[row] if labels is not None else None, []).append(row)
    place = np.empty(size)
    for rows in groups.values():
        place[rows] = (np.arange(len(rows)) + random.random()) / len(rows)
    return place


def shares(where: Where, default: Sequence[float] = FRACTIONS) -> tuple[float, float, float]:
    """The shares of the three parts, checked."""
    given = list(where.fractions if where.fractions is not None else default)
    if len(given) != 3 or min(given) < 0 or given[0] <= 0 or sum(given) > 1 + 1e-9:
        raise EveryformerError(
            f"data.fractions takes the shares of train, valid and test, such as [0.8, 0.1, 0.1]; given {given}"
        )
    return given[0], given[1], given[2]


def divide(rows: dict[str, Rows], where: Where, label: str | None = None) -> dict[str, Rows]:
    """All parts: those given stay, those missing are taken from the training part by `where.fractions`."""
    if "train" not in rows:
        raise EveryformerError(f"the data has the parts {', '.join(rows)} and none to train on; give data.train=...")
    _, valid, test = shares(where)
    wanted = {split: share for split, share in (("test", test), ("valid", valid)) if split not in rows and share}
    train, used = rows["train"], where.train_share
    if not 0 < used <= 1:
        raise EveryformerError(f"data.train_share is above 0 and at most 1; given {used}")
    labels = train.column(label) if label and label in train.names and (wanted or used < 1) else None
    place = places(len(train), where.split_seed, labels)
    parts = dict(rows)
    low = 0.0
    for split, share in wanted.items():
        parts[split] = train.take(np.flatnonzero((place >= low) & (place < low + share)).tolist())
        low += share
    parts["train"] = train.take(np.flatnonzero((place >= low) & (place < low + used * (1 - low))).tolist())
    if not len(parts["train"]):
        raise EveryformerError(f"a share of {used} of the {len(train)} rows of {train.where} is none; give more")
    for split, share in wanted.items():
        if not len(parts[split]):
            raise EveryformerError(
                f"{share:.0%} of the {len(train)} rows of {train.where} are none; "
                f"give more data, a file for '{split}' (data.{split}=FILE) or other data.fractions"
            )
    limited = {s: p.take(range(min(len(p), where.limit))) if where.limit else p for s, p in parts.items()}
    return {split: limited[split] for split in SPLITS if split in limited}
