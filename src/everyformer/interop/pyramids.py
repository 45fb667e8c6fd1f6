"""What configs say of pyramids, stage by stage, and tables that their families share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everyformer.designs import Design
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interop.config import Config, Key, Setting
from everyformer.interop.forms import Wrapped
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer

STAGE = "backbone.stages.*"
BLOCK = f"{STAGE}.blocks.*"


@dataclass(frozen=True)
class Stages(Setting):
    """The key `theirs` is a list of what stands `at` a path in each stage, and of `absent` where there is no such part."""

    theirs: str
    at: str
    option: str
    absent: Any = None

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {self.option: tuple(config.value(self.theirs))}

    def write(self, design: Design) -> dict[str, Any]:
        """The list, from the first of the places in each stage."""
        return {self.theirs: [self._of(design, i) for i in range(stages(design))]}

    def _of(self, design: Design, stage: int) -> Any:
        place, _, option = self.at.rpartition(".")
        found = design.find(f"backbone.stages.{stage}.{place}")
        return design.get(f"{found[0]}.{option}") if found else self.absent


@dataclass(frozen=True)
class Fixed(Setting):
    """The key `theirs` is a list with one value for the `first` stage and one for the `others`, which the system fixes."""

    theirs: str
    first: Any
    others: Any

    def read(self, config: Config) -> dict[str, Any]:
        """Nothing; another list is refused."""
        if self.theirs in config:
            config.only({self.theirs: self._of(len(config[self.theirs]))})
        return {}

    def write(self, design: Design) -> dict[str, Any]:
        """The list."""
        return {self.theirs: self._of(stages(design))}

    def _of(self, count: int) -> list[Any]:
        return [self.first, *[self.others] * (count - 1)]


@dataclass(frozen=True)
class Alike(Setting):
    """A list with the same value for every stage, which is that of the `key`."""

    key: Key

    def read(self, config: Config) -> dict[str, Any]:
        """The option; values that differ are refused."""
        values = config.value(self.key.theirs, [self.key.default])
        config.only({self.key.theirs: [values[0]] * len(values)})
        return self.key.read(Config({self.key.theirs: values[0]}))

    def write(self, design: Design) -> dict[str, Any]:
        """The list."""
        return {name: [value] * stages(design) for name, value in self.key.write(design).items()}


@dataclass(frozen=True)
class Whole(Setting):
    """Lists of whole numbers there, of any numbers here."""

    setting: Setting

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return self.setting.read(config)

    def write(self, design: Design) -> dict[str, Any]:
        """The lists; a number that is not whole is refused."""
        said = self.setting.write(design)
        for name, values in said.items():
            if any(value != int(value) for value in values):
                raise DoesNotFit(f"{name} takes whole numbers there; the design has {values}")
        return {name: [int(value) for value in values] for name, values in said.items()}


@dataclass(frozen=True)
class Last(Setting):
    """A list with a value for each stage, of which the last one is that of the `key`: rates of dropping."""

    key: Key | DropPath

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return self.key.read(Config({self.key.theirs: config.value(self.key.theirs, [0.0])[-1]}))

    def write(self, design: Design) -> dict[str, Any]:
        """The list, zero but for the last."""
        return {name: [0.0] * (stages(design) - 1) + [value] for name, value in self.key.write(design).items()}


@dataclass(frozen=True)
class Depths(Setting):
    """The key `theirs` is a list of how many blocks each stage has, and the key `count`, if any, how many stages."""

    theirs: str = "depths"
    count: str | None = None

    def read(self, config: Config) -> dict[str, Any]:
        """The option; more blocks than tensors is a lie that would fill the memory."""
        value = config.value(self.theirs)
        if sum(value) > max(len(config.names), 1):
            raise BadInput(f"config.json has {self.theirs}={value!r}, and the checkpoint {len(config.names)} tensors")
        return {"depths": tuple(value)}

    def write(self, design: Design) -> dict[str, Any]:
        """The list."""
        found = [len(each.get("blocks")) for each in design.get("backbone.stages")]
        return {self.theirs: found, **({self.count: len(found)} if self.count else {})}


@dataclass(frozen=True)
class Widths(Setting):
    """The key `theirs` is a list of the width of each stage."""

    theirs: str = "hidden_sizes"

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {"widths": tuple(config.value(self.theirs))}

    def write(self, design: Design) -> dict[str, Any]:
        """The list."""
        return {self.theirs: [design.get("width"), *(each.get("to") for each in design.get("backbone.stages")[1:])]}


@dataclass(frozen=True)
class DropPath(Setting):
    """The rate of stochastic depth in the last block."""

    theirs: str = "drop_path_rate"

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {"drop_path": config.value(self.theirs, 0.0)}

    def write(self, design: Design) -> dict[str, Any]:
        """The key."""
        rates = [part.get("rate") for _, part in design.walk() if part.name == "norms.StochasticDepth"]
        return {self.theirs: max(rates, default=0.0)}


CHANNELS = Key("num_channels", "embedding.channels", "channels", default=3)
ACTIVATION = Key("hidden_act", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu")


def stages(design: Design) -> int:
    """How many stages a design has."""
    return len(design.get("backbone.stages"))


def norms(first: str, second: str) -> list[Pair]:
    """The norms in front of both layers of a block."""
    return [*layer(f"{BLOCK}.residual.0.norm", first), *layer(f"{BLOCK}.residual.1.norm", second)]


def maps(up: str, down: str) -> list[Pair]:
    """Both maps of a feed-forward layer."""
    return [*layer(f"{BLOCK}.feedforward.up", up), *layer(f"{BLOCK}.feedforward.down", down)]


def pointwise(ours: str, theirs: str) -> list[Pair]:
    """A linear map of ours that is a 1x1 convolution of theirs."""
    weight, bias = layer(ours, theirs)
    return [Pair(weight.ours, weight.theirs, Wrapped(after=2)), bias]
