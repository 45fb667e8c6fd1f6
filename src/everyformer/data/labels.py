"""Class labels into ids, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everyformer.data.sources import Rows
from everyformer.errors import BadInput, nearest


def fit_classes(rows: Rows, column: str, given: int | list[str] | None = None) -> list[str]:
    """The names of the classes: given, or the data set's own, or the values that the training part has, in order."""
    if isinstance(given, int):
        return [str(i) for i in range(given)]
    if given is not None:
        return list(given)
    if column in rows.classes:
        return rows.classes[column]
    values = set(rows.column(column))
    wrong = next((v for v in values if v is None or (isinstance(v, float) and not v.is_integer())), 0)
    if wrong != 0:
        row = rows.column(column).index(wrong)
        raise BadInput(
            f"label {wrong!r} in row {row} of {rows.where} is no class; classes are words or whole numbers; "
            "correct the row or name another column: data.label=COLUMN"
        )
    if len(values) < 2:
        raise BadInput(
            f"the column '{column}' of {rows.where} has the one class {next(iter(values))!r}; at least two are needed"
        )
    if len(values) == len(rows) and len(rows) > 20:
        raise BadInput(
            f"the column '{column}' of {rows.where} has a class of its own in each of {len(rows)} rows; "
            "name the column of the classes: data.label=COLUMN"
        )
    return [_word(v) for v in sorted(values, key=lambda v: (isinstance(v, str), v))]


def labels_of(parts: Mapping[str, Rows], column: str, classes: Sequence[str]) -> dict[str, list[int]]:
    """The class id of each row of each part."""
    ids = {name: i for i, name in enumerate(classes)}
    found: dict[str, list[int]] = {}
    for split, rows in parts.items():
        named = column in rows.classes
        found[split] = []
        for row, value in enumerate(rows.column(column)):
            label = value if named and isinstance(value, int) else ids.get(_word(value), -1)
            if not 0 <= label < len(classes):
                raise BadInput(
                    f"label {value!r} in row {row} of {rows.where} ('{split}') is none of the {len(classes)} classes "
                    f"({_range(classes, value)}); correct the row or set data.classes"
                )
            found[split].append(label)
    return found


def _word(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _range(classes: Sequence[str], value: Any) -> str:
    if isinstance(value, (int, float)):
        return f"{classes[0]} to {classes[-1]}"
    return nearest(str(value), classes)
