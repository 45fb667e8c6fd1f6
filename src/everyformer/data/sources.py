"""Where rows come from: a built-in set, a named set, files, a folder, or a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyformer.errors import EveryformerError, UnknownName

SPLITS = ("train", "valid", "test")
ALIASES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}
"""What files, folders and hub splits are called."""


@dataclass(kw_only=True)
class Where:
    """Where the data is, and how it is divided: what the `data` section of every task has."""

    source: str | list[str] | None = None
    """'digits', 'scenes', 'roads' or 'python' (built in), a name in the folder EVERYFORMER_DATA, a file, a folder, a hub id ('owner/name')
    or the URL of a file; of a list, the first that is at hand."""
    path: str | None = None
    """A file or a folder, in place of `source`."""
    config: str | None = None
    """The configuration of the hub data set."""
    train: str | None = None
    """The file (inside `path`) or hub split of the training part, where it is not called 'train'."""
    valid: str | None = None
    test: str | None = None
    fractions: list[float] | None = None
    """Shares of training, validation and test where the data is not divided; [0.8, 0.1, 0.1] unless a task says else."""
    train_share: float = 1.0
    """How much of the training part is used, evenly of each class; a smaller share is part of a larger one."""
    split_seed: int = 0
    limit: int | None = None
    """Rows of each part that are used; None for all."""


class Rows:
    """Columns of equal length, read when asked for."""

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]] | Callable[[str], Sequence[Any]],
        names: Iterable[str],
        size: int,
        where: str,
        classes: Mapping[str, list[str]] | None = None,
        chosen: Sequence[int] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._columns, self.names, self._size, self.where = columns, list(names), size, where
        self.classes = dict(classes or {})
        self._chosen = chosen
        self.folder = folder
        """Where files that a column names by a relative path lie."""

    def __len__(self) -> int:
        return self._size if self._chosen is None else len(self._chosen)

    def take(self, indices: Sequence[int]) -> Rows:
        """Some of the rows."""
        chosen = list(indices) if self._chosen is None else [self._chosen[i] for i in indices]
        return Rows(self._columns, self.names, self._size, self.where, self.classes, chosen, self.folder)

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        if name not in self.names:
            raise UnknownName(f"column in {self.where}", name, self.names)
        values = self._columns[name] if isinstance(self._columns, Mapping) else self._columns(name)
        return list(values) if self._chosen is None else [values[i] for i in self._chosen]

    def files(self, name: str) -> list[tuple[Any, str]]:
        """The values of a column of pictures or sounds (paths beside the table they stand in), each with its name."""
        found = []
        for row, value in enumerate(self.column(name)):
            if isinstance(value, str) and self.folder is not None:
                value = str(self.folder / value)
            path = value.get("path") if isinstance(value, dict) else value if isinstance(value, str) else None
            found.append((value, f"'{path}'" if path else f"row {row} of {self.where}"))
        return found

    def pick(self, given: str | None, usual: Sequence[str], option: str) -> str:
        """The name of a column: the one that is given, else the first of the usual names that is there."""
        if given is not None:
            if given not in self.names:
                raise UnknownName(f"column in {self.where} (data.{option})", given, self.names)
            return given
        for name in usual:
            if name in self.names:
                return name
        raise EveryformerError(
            f"{self.where} has the columns {', '.join(self.names)}; say which one is meant: data.{option}=COLUMN"
        )


def read_rows(where: Where, read: Callable[[Path, Where], dict[str, Rows]] | None = None) -> dict[str, Rows]:
    """The rows of each part that the data has, not yet divided further; `read` reads a path in a task's own way."""
    from everyformer.data import builtin, files

    read = read or files.read_path
    found = find(where)
    if isinstance(found, Path):
        rows = read(found, where)
    else:
        rows = builtin.SETS[found]() if found in builtin.SETS else files.read_hub(found, where)
    for split, part in rows.items():
        if not len(part):
            raise EveryformerError(f"the '{split}' part, {part.where}, has no rows; give data with at least one row")
    return rows


def find(where: Where) -> Path | str:
    """The file or folder of the data, or the name of a built-in set, or a hub id."""
    from everyformer.data import builtin, files

    if where.path is not None:
        path = Path(where.path).expanduser()
        if not path.exists():
            raise EveryformerError(f"no file or folder at '{where.path}' (data.path); give the path of your data")
        return path
    sources = [where.source] if isinstance(where.source, str) else list(where.source or ())
    if not sources:
        raise EveryformerError("the recipe names no data; give data.path=FILE_OR_FOLDER or data.source=NAME")
    home = os.environ.get("EVERYFORMER_DATA")
    for source in sources:
        if source in builtin.SETS:
            return source
        for path in (Path(home or ".").expanduser() / source, Path(source).expanduser()):
            if path.exists():
                return path
        if re.match("https?://", source):
            return files.fetch(source)
        if re.fullmatch(r"[\w.-]+/[\w-]+", source):
            return source
    known = f"'{home}' (EVERYFORMER_DATA) has no '{sources[0]}'" if home else "EVERYFORMER_DATA is not set"
    raise EveryformerError(
        f"data '{sources[0]}' is not at hand: {known}; set EVERYFORMER_DATA to the folder that holds it, "
        f"or give data.path=FILE_OR_FOLDER or data.source=HUB_OWNER/NAME; built in: {', '.join(builtin.SETS)}"
    )


def split_called(name: str) -> str | None:
    """The part that a file, folder or hub split of that name holds."""
    word = name.lower()
    for split, called in ALIASES.items():
        if any(word == each or word.startswith((f"{each}-", f"{each}_", f"{each}.")) for each in called):
            return split
    return None
