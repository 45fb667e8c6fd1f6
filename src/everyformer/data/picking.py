"""A recipe for data that has none: task, design and steps by what is there and by how much of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from everyformer.data.files import PICTURES, SOUNDS, read_path
from everyformer.data.options import read_options
from everyformer.data.sources import Rows, Where
from everyformer.data.stamps import is_time
from everyformer.errors import BadInput, EveryformerError

LOOKED_AT = 200
"""Files or rows that are looked at to find their size."""
TIMES = ("date", "time", "timestamp", "datetime")
LABELS = ("label", "labels", "class", "target", "category")
RECIPES = {
    "image-classification": "pictures", "audio-classification": "sounds", "text-classification": "texts",
    "forecasting": "series", "language-modelling": "text",
}  # fmt: skip
"""The recipe that a task begins from."""


@dataclass
class Picked:
    """A recipe's name, what is laid over it, and what was found."""

    recipe: str
    values: dict[str, Any]
    found: str


def pick(path: Path, given: Mapping[str, Any], task: str | None = None) -> Picked:
    """A recipe for the data at `path`; `given` is what the user says in `data`, and `task` the task if it is said."""
    names = {key: value for key, value in given.items() if key in ("train", "valid", "test")}
    where = read_options(Where, {"path": str(path), **names})
    try:
        rows = read_path(path, where)["train"]
    except EveryformerError as error:
        raise BadInput(f"{error} (found: {_found(path)})" if path.is_dir() else str(error)) from None
    if task is not None and task not in RECIPES:
        raise EveryformerError(
            f"no recipe is picked for task={task}; take one that is written for it (everyformer list --recipes), with "
            f"data.path={path}, or leave task away or give one of: {', '.join(RECIPES)}"
        )
    task = task or _task(rows, given)
    made = _MAKERS[task](rows, given)
    values = {"name": path.stem, "data": {"path": str(path), **made["data"]}, "design": made.get("design", {})}
    values["training"] = made["training"]
    return Picked(RECIPES[task], values, made["found"])


def _found(path: Path) -> str:
    counts = Counter(p.suffix.lower() or "files without a suffix" for p in path.rglob("*") if p.is_file())
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common(5)) or "nothing"


def _task(rows: Rows, given: Mapping[str, Any]) -> str:
    kind = _kind_of_files(rows)
    if kind:
        return kind
    kinds = {name: _kind(rows, name) for name in rows.names}
    if {"label", "input"} & set(given):
        return "text-classification" if "label" in given else "language-modelling"
    words = [name for name, kind in kinds.items() if kind == "words"]
    if rows.names == ["text"] or len(rows.names) == len(words) == 1:
        return "language-modelling"
    if _label(rows) is not None and words:
        return "text-classification"
    timed = any(kind == "time" for kind in kinds.values())
    if any(kind == "number" for kind in kinds.values()) and not words and (timed or _label(rows) is None):
        return "forecasting"
    shown = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    raise BadInput(
        f"{rows.where} has the columns {shown}: neither texts with a column of labels nor series of numbers; name the "
        "columns, data.input=COLUMN data.label=COLUMN, or the task, task=forecasting"
    )


def _kind_of_files(rows: Rows) -> str | None:
    """The task of a folder of classes, or of a table that names pictures or sounds."""
    for column in ("image", "img", "picture", "audio", "sound", "file", "path"):
        if column in rows.names:
            values = [str(v.get("path") if isinstance(v, dict) else v).lower() for v in rows.column(column)]
            heard, seen = (sum(v.endswith(kind) for v in values) for kind in (SOUNDS, PICTURES))
            if heard and seen:
                raise BadInput(
                    f"{rows.where} holds {seen} pictures and {heard} sounds; give a folder that holds one of the two"
                )
            if heard or seen:
                return "audio-classification" if heard else "image-classification"
    return None


def _kind(rows: Rows, name: str) -> str:
    values = [v for v in rows.take(range(min(len(rows), LOOKED_AT))).column(name) if v is not None]
    if not values:
        return "empty"
    if name.lower() in TIMES and is_time(values[0]):
        return "time"
    if isinstance(values[0], str):
        return "words"
    return "time" if is_time(values[0]) else "number"


def _label(rows: Rows) -> str | None:
    return next((name for name in rows.names if name.lower() in LABELS), None)


def _steps(samples: int, batch: int, epochs: int, least: int, most: int) -> int:
    """So many epochs, where that is neither too few steps to learn from nor too many to wait for."""
    return max(least, min(most, epochs * samples // batch))


def _pictures(rows: Rows, given: Mapping[str, Any]) -> dict[str, Any]:
    from PIL import Image

    column = rows.pick(given.get("input"), ("image", "img", "picture", "file", "path"), "input")
    sides, gray = [], True
    every = max(1, len(rows) // LOOKED_AT)
    for value, _ in rows.take(range(0, len(rows), every)).files(column):
        try:
            with Image.open(value) as picture:
                sides.append(min(picture.size))
                gray = gray and picture.mode in ("1", "L", "LA", "I", "F", "I;16")
        except (OSError, SyntaxError, ValueError, AttributeError):
            continue  # reading the data names it
    side = int(given.get("image") or max(8, min(64, median(sides or [32]))))
    convs = 1 if side <= 12 else 2 if side < 48 else 3
    small = side <= 12
    steps = _steps(len(rows), 64, 40, 400, 2000)
    kept = "each of its own size" if given.get("fit") == "keep" else f"brought to {side}x{side}"
    return {
        "data": {"image": side, "shift": max(1, side // 8), "flip": not gray},
        "design": {"convs": convs, "width": 64 if small else 128},
        "training": {"steps": steps},
        "found": f"{len(rows):,} {'gray' if gray else 'colour'} pictures, a folder a class, {kept}",
    }


def _sounds(rows: Rows, given: Mapping[str, Any]) -> dict[str, Any]:
    import soundfile

    column = rows.pick(given.get("input"), ("audio", "sound", "file", "path"), "input")
    seconds, rates = [], []
    for value, _ in rows.take(range(0, len(rows), max(1, len(rows) // LOOKED_AT))).files(column):
        try:
            found = soundfile.info(value)
        except (soundfile.SoundFileError, TypeError, ValueError):
            continue  # reading the data names it
        seconds.append(found.duration)
        rates.append(found.samplerate)
    long = sorted(seconds or [1.0])[int(0.95 * (len(seconds) - 1))]
    frames = max(16, min(384, 8 * round(long * 100 / 8)))
    rate = min(16000, min(rates or [16000]))
    steps = _steps(len(rows), 32, 30, 400, 2400)
    return {
        "data": {
            "rate": rate, "mels": 40 if rate <= 8000 else 64, "frames": frames, "shift": frames // 8,
            "mask_frames": frames // 6,
        },
        "training": {"steps": steps},
        "found": f"{len(rows):,} sounds, a folder a class, at {rate} Hz, {frames / 100:.2g} s each",
    }  # fmt: skip


def _texts(rows: Rows, given: Mapping[str, Any]) -> dict[str, Any]:
    label = given.get("label") or _label(rows)
    column = given.get("input") or _longest(rows, label)
    rows.pick(column, (), "input")
    rows.pick(label, LABELS, "label")
    count = sorted(len(str(text).split()) for text in rows.column(column))
    long = count[int(0.95 * (len(count) - 1))]
    length = next((each for each in (32, 64, 128) if each >= 1.4 * long), 256)
    steps = _steps(len(rows), 32, 30, 300, 2000)
    return {
        "data": {
            "input": column, "label": label, "length": length,
            "vocabulary": max(512, min(8000, len(rows) // 2)),
        },
        "training": {"steps": steps},
        "found": f"{len(rows):,} texts in the column '{column}', classes in '{label}', {length} tokens at most",
    }  # fmt: skip


def _longest(rows: Rows, label: str | None) -> str | None:
    some = rows.take(range(min(len(rows), LOOKED_AT)))
    words = [name for name in rows.names if name != label and _kind(rows, name) == "words"]
    return max(words, key=lambda name: sum(len(str(v)) for v in some.column(name)), default=None)


def _series(rows: Rows, given: Mapping[str, Any]) -> dict[str, Any]:
    timed = given.get("time") or next((name for name in rows.names if _kind(rows, name) == "time"), None)
    horizon = int(given.get("horizon") or next((h for h in (96, 48, 24, 12, 6, 3) if 50 * h <= len(rows)), 1))
    lookback = int(given.get("lookback") or min(96, 4 * horizon))
    steps = _steps(len(rows), 32, 20, 300, 1500)
    data: dict[str, Any] = {"horizon": horizon, "lookback": lookback}
    if timed is not None:
        data["time"] = timed
    return {
        "data": data,
        "training": {"steps": steps},
        "found": f"{len(rows):,} steps of numbers{f', times in {timed!r}' if timed else ''}: {lookback} steps into the "
        f"next {horizon}",
    }


def _text(rows: Rows, given: Mapping[str, Any]) -> dict[str, Any]:
    column = rows.pick(given.get("input"), ("text", "content", "code", "sentence", *rows.names), "input")
    size = sum(len(str(text)) for text in rows.column(column))
    tokens = given.get("tokens") or ("characters" if size < 3_000_000 else "bpe")
    length = int(given.get("length") or max(8, min(128, size // 25)))
    steps = _steps(size // length, 16, 10, 300, 2000)
    return {
        "data": {"input": column, "tokens": tokens, "length": length},
        "design": {"length": length},
        "training": {"steps": steps},
        "found": f"{size:,} characters of text, as {tokens}, {length} tokens at a time",
    }


_MAKERS = {
    "image-classification": _pictures, "audio-classification": _sounds, "text-classification": _texts,
    "forecasting": _series, "language-modelling": _text,
}  # fmt: skip
