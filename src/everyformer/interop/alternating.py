"""How far layers see, as configs say it: windows, and bodies in which only some layers see all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.interop.config import Config, Setting
from everyformer.masks import Window
from everyformer.specs import Spec

KINDS = ("full_attention", "sliding_attention")


def near(design: Design) -> list[bool]:
    """Which blocks see only what is near."""
    return [isinstance(mixer.get("mask"), Window) for mixer in mixers(design)]


def mixers(design: Design) -> list[Spec[Any]]:
    """The attention of each block."""
    return [block.get("mixer") for block in design.get("backbone.blocks")]


@dataclass(frozen=True)
class Kinds(Setting):
    """`layer_types`, or the number under a key of `old`: each n-th layer sees all, by `full(index, n)`."""

    full: Callable[[int, int], bool]
    old: str
    default: int

    def read(self, config: Config) -> dict[str, Any]:
        """The number."""
        said, depth = config.get("layer_types"), config.value("num_hidden_layers")
        if said is None:
            return {"every": config.get(self.old, self.default)}
        found = next((n for n in range(1, depth + 2) if said == [self._kind(i, n) for i in range(depth)]), None)
        if found is None:
            raise DoesNotFit(f"layer_types={said}; in the system every n-th layer sees all")
        return {"every": found}

    def write(self, design: Design) -> dict[str, Any]:
        """The kind of each layer."""
        return {"layer_types": [KINDS[each] for each in near(design)]}

    def _kind(self, index: int, n: int) -> str:
        return KINDS[not self.full(index, n)]


@dataclass(frozen=True)
class Near(Setting):
    """How many tokens a layer that does not see all sees: `span(mask)` of them."""

    theirs: str
    default: int
    span: Callable[[Window], int]

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        return {"window": config.get(self.theirs, self.default)}

    def write(self, design: Design) -> dict[str, Any]:
        """The key."""
        masks = [each.get("mask") for each in mixers(design)]
        return {self.theirs: next((self.span(mask) for mask in masks if isinstance(mask, Window)), self.default)}


@dataclass(frozen=True)
class Windows(Setting):
    """`attention_window`: how many tokens each of the blocks `at` a path sees, or one number for all."""

    at: str

    def read(self, config: Config) -> dict[str, Any]:
        """The option."""
        said = config.value("attention_window", 512)
        return {"window": tuple(said) if isinstance(said, list) else said}

    def write(self, design: Design) -> dict[str, Any]:
        """That of every layer."""
        masks = [block.get("mixer").get("mask") for block in design.get(self.at)]
        return {"attention_window": [mask.before + mask.after for mask in masks]}


@dataclass(frozen=True)
class Rotations(Setting):
    """The rotations of both kinds of layers, in one key, or in two of `old`."""

    old: tuple[str, str]
    default: tuple[float, float]

    def read(self, config: Config) -> dict[str, Any]:
        """The bases, and what divides the places in layers that see all."""
        found = config.get("rope_parameters") or {"full_attention": config.get("rope_scaling")}
        bases, factors = [], []
        for kind, name, default in zip(KINDS, self.old, self.default, strict=True):
            each = found.get(kind) or {}
            if each.get("rope_type", "default") not in ("default", "linear"):
                raise DoesNotFit(f"the rotation {each}; the system has 'default' and 'linear'", "positions")
            bases.append(each.get("rope_theta", config.get(name, default)))
            factors.append(each.get("factor", 1.0))
        if factors[1] != 1.0:
            raise DoesNotFit(f"the rotation {found[KINDS[1]]}; the system has the plain one there", "positions")
        linear = {} if factors[0] == 1.0 else {"linear": factors[0]}
        return {"base": bases[0], "local_base": bases[1], **linear}

    def write(self, design: Design) -> dict[str, Any]:
        """The rotations as they write them today."""
        said: dict[str, dict[str, Any]] = {}
        for kind, default in zip(KINDS, self.default, strict=True):
            said[kind] = {"rope_type": "default", "rope_theta": default}
        for mixer, far in zip(mixers(design), near(design), strict=True):
            base, factor = (mixer.get("positions").get(name) for name in ("base", "linear"))
            scaled = {} if factor == 1.0 else {"rope_type": "linear", "factor": factor}
            said[KINDS[far]] = {"rope_type": "default", "rope_theta": base, **scaled}
        return {"rope_parameters": said}
