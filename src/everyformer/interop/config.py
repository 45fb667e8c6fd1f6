"""Keys of their config.json, each read into a system's options and written back from a design."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from everyformer.designs import Design
from everyformer.errors import BadInput, DoesNotFit, UnknownName

NEEDED: Any = object()
"""The default of a key that every config of the family has."""


class Config(dict[str, Any]):
    """A config.json, and the names of the tensors beside it."""

    def __init__(self, values: Mapping[str, Any], names: Iterable[str] = ()) -> None:
        super().__init__(values)
        self.names = frozenset(names)

    def value(self, name: str, default: Any = NEEDED) -> Any:
        """The value of a key; one that is needed and absent is an error."""
        found = self.get(name, default)
        if found is NEEDED:
            raise BadInput(f"config.json has no '{name}'; is it the config of this family?")
        return found

    def only(self, known: Mapping[str, Any]) -> None:
        """Refuse a setting that differs from the one value that the system has."""
        for name, value in known.items():
            if self.get(name, value) != value:
                raise DoesNotFit(f"the config has {name}={self[name]!r}, and the system here has only {value!r}")


class Setting:
    """Base of what a config says: read into options of the system (or paths of its design), and written back."""

    def read(self, config: Config) -> dict[str, Any]:
        """Options of the system, and, under names with a dot, what is set in its design afterwards."""
        raise NotImplementedError

    def write(self, design: Design) -> dict[str, Any]:
        """Keys of the config."""
        raise NotImplementedError


@dataclass(frozen=True)
class Key(Setting):
    """The key `theirs` is what stands `at` a path of the design, and the system's `option` where it has one for it.

    `values` translates, their values to ours; `default` is what a config without the key means.
    """

    theirs: str
    at: str
    option: str | None = None
    values: Mapping[Any, Any] | None = None
    default: Any = NEEDED

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        value = config.value(self.theirs, self.default)
        if self.values is not None and value is not None:
            if not isinstance(value, (str, int, bool)) or value not in self.values:
                raise UnknownName(self.theirs, str(value), map(str, self.values))
            value = self.values[value]
        return {self.option or self.at: value}

    def write(self, design: Design) -> dict[str, Any]:
        """The key, from the first of the places."""
        place, _, option = self.at.rpartition(".")
        found = design.find(place) if "*" in place else [place]
        value = design.get(f"{found[0]}.{option}" if place else option) if found else None
        if self.values is None or value is None:
            return {self.theirs: value}
        for theirs, ours in self.values.items():
            if ours == value:
                return {self.theirs: theirs}
        raise DoesNotFit(f"{self.theirs} can be {', '.join(map(str, self.values))}; given {value!r}", self.at)


@dataclass(frozen=True)
class Both(Setting):
    """The key and the `other` one say the same, where the system has one option."""

    key: Key
    other: str

    def read(self, config: Config) -> dict[str, Any]:
        """The option; two that differ are refused."""
        config.only({self.other: config.value(self.key.theirs, self.key.default)})
        return self.key.read(config)

    def write(self, design: Design) -> dict[str, Any]:
        """Both keys."""
        said = self.key.write(design)
        return {**said, self.other: said[self.key.theirs]}


@dataclass(frozen=True)
class Within(Setting):
    """Settings that stand in a config of their own under a key."""

    key: str
    settings: tuple[Setting, ...]

    def read(self, config: Config) -> dict[str, Any]:
        """What all of them say."""
        inner = Config(config.get(self.key) or {}, config.names)
        return {name: value for setting in self.settings for name, value in setting.read(inner).items()}

    def write(self, design: Design) -> dict[str, Any]:
        """The inner config."""
        return {self.key: {name: value for each in self.settings for name, value in each.write(design).items()}}


@dataclass(frozen=True)
class Inner(Setting):
    """A config of its own under a key, of what stands at the `place` and is made of the options under that name."""

    key: str
    place: str
    settings: tuple[Setting, ...]

    def read(self, config: Config) -> dict[str, Any]:
        """The options of what stands there, and what is set in it afterwards."""
        said = Within(self.key, self.settings).read(config)
        options = {name: value for name, value in said.items() if "." not in name}
        return {self.place: options, **{f"{self.place}.{path}": said[path] for path in said if "." in path}}

    def write(self, design: Design) -> dict[str, Any]:
        """The inner config."""
        return Within(self.key, self.settings).write(Design(design.get(self.place)))


@dataclass(frozen=True)
class Depth(Setting):
    """The key `theirs` is how many parts stand in the list `at` a path."""

    theirs: str
    at: str
    option: str = "depth"
    default: Any = NEEDED

    def read(self, config: Config) -> dict[str, Any]:
        """The option; more layers than tensors is a lie that would fill the memory."""
        value = config.value(self.theirs, self.default)
        if not isinstance(value, int) or not 0 <= value <= max(len(config.names), 1):
            raise BadInput(f"config.json has {self.theirs}={value!r}, and the checkpoint {len(config.names)} tensors")
        return {self.option: value}

    def write(self, design: Design) -> dict[str, Any]:
        """The key."""
        return {self.theirs: len(design.get(self.at))}


@dataclass(frozen=True)
class Square(Setting):
    """The key `theirs` is the side of a square, a number or two equal ones."""

    theirs: str
    at: str
    option: str
    default: Any = NEEDED

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        value = config.value(self.theirs, self.default)
        height, width = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
        if height != width:
            raise BadInput(f"expected a square {self.theirs}; given {height}x{width}")
        return {self.option: height}

    def write(self, design: Design) -> dict[str, Any]:
        """The key."""
        return Key(self.theirs, self.at).write(design)


@dataclass(frozen=True)
class Labels(Setting):
    """The number of classes, from their names; two where the config is silent."""

    at: str
    option: str = "classes"

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {self.option: len(labels(config))}

    def write(self, design: Design) -> dict[str, Any]:
        """Names for the classes."""
        named = {i: f"LABEL_{i}" for i in range(design.get(self.at))}
        return {"id2label": {str(i): name for i, name in named.items()}, "label2id": {n: i for i, n in named.items()}}


@dataclass(frozen=True)
class Always(Setting):
    """An option of the system that all checkpoints of the family share, and no config speaks of."""

    option: str
    value: Any

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {self.option: self.value}

    def write(self, design: Design) -> dict[str, Any]:
        """Nothing."""
        return {}


class Written(Setting):
    """Keys that are written, and that nothing reads: what theirs would make besides, without which it answers the same."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def read(self, config: Config) -> dict[str, Any]:
        """Nothing."""
        return {}

    def write(self, design: Design) -> dict[str, Any]:
        """The values."""
        return dict(self.values)


class Only(Written):
    """Keys of which a class has one value."""

    def read(self, config: Config) -> dict[str, Any]:
        """Nothing; another value is refused."""
        config.only(self.values)
        return {}


@dataclass(frozen=True)
class Custom(Setting):
    """Settings that are several keys at once: two functions."""

    reads: Callable[[Config], dict[str, Any]]
    writes: Callable[[Design], dict[str, Any]]

    def read(self, config: Config) -> dict[str, Any]:
        """What the first function reads."""
        return self.reads(config)

    def write(self, design: Design) -> dict[str, Any]:
        """What the second function writes."""
        return self.writes(design)


def labels(config: Mapping[str, Any]) -> list[str]:
    """The names of the classes in order."""
    named = config.get("id2label")
    if named:
        return [name for _, name in sorted((int(i), str(name)) for i, name in named.items())]
    return [f"LABEL_{i}" for i in range(int(config.get("num_labels") or 2))]
