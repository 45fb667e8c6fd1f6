"""Families of checkpoints: what a config says, and one table of pairs of tensors, both read both ways."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.designs import Design, design_of
from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.interop.config import Config, Setting
from everyformer.interop.weights import Pair, Shapes, fill, write
from everyformer.registry import find_system
from everyformer.specs import Spec, check

Table = Callable[[Design], Iterable[Pair]]
_INERT = {"dropout", "start", "std"}
"""Options that change how a model is trained, and not what it answers."""


@dataclass(frozen=True)
class Top:
    """What one of their classes has on top of the body of its family."""

    table: tuple[Pair, ...] = ()
    """Its tensors, under their whole names."""
    settings: tuple[Setting, ...] = ()
    head: Callable[[Config], Spec[Any] | None] | None = None
    """The head, where it is not the one that the system makes of its options."""
    unused: tuple[str, ...] = ()
    """Patterns of tensors that files of this class may have, and that nothing reads."""
    prefix: str | None = None
    """What the names of the body begin with, where it is not the family's: nothing in a class that is the body."""


@dataclass(frozen=True)
class Family:
    """The checkpoints of one `model_type`, and the system that they are.

    Classes of which the body is another (one tower of two, one stack of an encoder-decoder) are a family of their own.
    """

    name: str
    """Their `model_type`."""
    system: str
    settings: tuple[Setting, ...]
    table: Table
    """The tensors of the body, under their names without the prefix."""
    tops: Mapping[str, Top]
    """By the names of their classes, as in `architectures`."""
    prefix: str = ""
    """What the names of the body begin with in a class that holds it."""
    only: Mapping[str, Any] = field(default_factory=dict)
    """Settings of which the system has one value."""
    unused: tuple[str, ...] = ("*.position_ids", "position_ids", "*.inv_freq")
    """Patterns of tensors that hold no weights."""
    fixed: Mapping[str, Callable[[Any], Tensor]] = field(default_factory=dict)
    """What theirs keeps among the weights of the body and ours makes of itself: compared on the way in."""
    make: Callable[..., Design] | None = None
    """What makes the design of the settings, where it is not the system: a part of it that stands alone."""

    def top(self, config: Config) -> str:
        """The class that a config names; the first of the family where it names none."""
        named = config.get("architectures") or [next(iter(self.tops))]
        if named[0] not in self.tops:
            known = [top for family in families() if family.name == self.name for top in family.tops]
            raise UnknownName(f"class of '{self.name}' checkpoints", str(named[0]), known)
        return named[0]

    def has(self, config: Config) -> bool:
        """Whether a config has the values that the family has alone: two families may differ in nothing else."""
        return all(config.get(name, value) == value for name, value in self.only.items())

    def design(self, config: Config, top: str) -> Design:
        """The design that a config of one of the classes describes."""
        config.only(self.only)
        chosen = self.tops[top]
        said: dict[str, Any] = {}
        for setting in (*self.settings, *chosen.settings):
            said |= setting.read(config)
        make = self.make or find_system(self.system).make
        options = {name: value for name, value in said.items() if "." not in name}
        check(make, options)
        made = replace(make(**options), name=self.system)
        if chosen.head is not None:
            made = made.set("head", chosen.head(config))
        for path, value in said.items():
            if "." in path:
                made = made.set(path, value)
        return made

    def pairs(self, design: Design, top: str, names: Iterable[str] | None = None) -> list[Pair]:
        """The whole table of a class; a body whose `names` are given may stand with or without its prefix."""
        prefix = self._prefix(top, names)
        return [*(pair.under(prefix) for pair in self.table(design)), *self.tops[top].table]

    def fill(
        self,
        model: nn.Module,
        top: str,
        theirs: Mapping[str, Tensor],
        *,
        shapes: Shapes | None = None,
        dtype: torch.dtype | None = None,
        new: Sequence[str] = (),
        unused: Sequence[str] = (),
    ) -> None:
        """Copy the tensors of one of the classes into a model of its design; see `weights.fill`."""
        names = theirs if shapes is None else shapes
        prefix = self._prefix(top, names)
        fixed = {f"{prefix}{name}": make for name, make in self.fixed.items()}
        idle = (*self.unused, *self.tops[top].unused, *fixed, *unused)
        pairs = self.pairs(design_of(model), top, names)
        fill(model, pairs, theirs, shapes=shapes, dtype=dtype, new=new, unused=idle)
        for name, make in fixed.items():
            if name in names and not _as_made(make(model), theirs[name]):
                raise DoesNotFit(f"{name} was trained, or is another than the fixed one of the published model")

    def _prefix(self, top: str, names: Iterable[str] | None) -> str:
        """What stands before the names of the body, with its dot."""
        own = self.tops[top].prefix
        prefix = self.prefix if own is None else own
        if names is not None:
            prefix = next((p for p in (prefix, self.prefix) if any(name.startswith(f"{p}.") for name in names)), "")
        return f"{prefix}." if prefix else ""

    def back(self, model: nn.Module, top: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The config and the tensors of a model of ours as one of their classes; what cannot be said there is refused."""
        design = design_of(model)
        config: dict[str, Any] = {"architectures": [top], "model_type": self.name, **self.only}
        for setting in (*self.settings, *self.tops[top].settings):
            config |= setting.write(design)
        made = write(model, self.pairs(design, top))
        made |= {f"{self._prefix(top, None)}{name}": make(model) for name, make in self.fixed.items()}
        said = at_rest(self.design(Config(config, made), top))
        difference = said.diff(at_rest(design))
        if difference != "no difference":
            raise DoesNotFit(f"{top} cannot hold this design; it would have to be:\n{difference}")
        return config, made


_families: list[Family] = []


def register(family: Family) -> Family:
    """Make a family known to `ef.load` and to export."""
    _families.append(family)
    return family


@cache
def families() -> Sequence[Family]:
    """All of them; of several with one `model_type` the first is what a config is that names no class."""
    package = importlib.import_module("everyformer.interop")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"everyformer.interop.{found.name}")
    return _families


def family_of(config: Config) -> Family:
    """The family that a config names by its `model_type`, or else by its class."""
    named, top = config.get("model_type"), (config.get("architectures") or [""])[0]
    found = [family for family in families() if (top in family.tops if named is None else named == family.name)]
    if not found:
        raise UnknownName("family of checkpoints", str(named or top), {family.name for family in families()})
    named_so = [family for family in found if top in family.tops] or found
    return next((family for family in named_so if family.has(config)), named_so[0])


def back(model: nn.Module, top: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a model of ours as the class `top`, or the first that can hold its design."""
    system = getattr(model, "system", "")
    fitting = [family for family in families() if family.system == system]
    if not fitting:
        known = {family.system for family in families()}
        raise UnknownName("system with a way to Hugging Face transformers", system or type(model).__name__, known)
    errors: list[EveryformerError] = []
    for family in fitting:
        for name in family.tops if top is None else [top]:
            if name not in family.tops:
                errors.append(UnknownName(f"class of '{family.name}' checkpoints", name, family.tops))
                continue
            try:
                return family.back(model, name)
            except EveryformerError as error:
                errors.append(error)
    raise min(errors, key=_distance)


def _as_made(ours: Tensor, theirs: Tensor) -> bool:
    """Whether a tensor of theirs is the one that ours makes, but for rounding."""
    near = max(1e-4, torch.finfo(theirs.dtype).eps)
    return ours.shape == theirs.shape and torch.allclose(ours.to(theirs.dtype), theirs, atol=near)


def _distance(error: EveryformerError) -> tuple[bool, bool, int]:
    """How far a design is from a class that refused it: the fewest differences first."""
    return not isinstance(error, DoesNotFit), bool(getattr(error, "path", "")), str(error).count("\n")


def at_rest(design: Design) -> Design:
    """The design without what is only for training: dropout, random depth, how weights start."""
    return Design(_resting(design.spec), design.name)


def _resting(value: Any) -> Any:
    if isinstance(value, tuple):
        kept = [each for each in value if not (isinstance(each, Spec) and each.name == "norms.StochasticDepth")]
        return tuple(map(_resting, kept))
    if not isinstance(value, Spec):
        return value
    options = {name: _resting(each) for name, each in value.options.items() if name not in _INERT}
    return Spec(value.part, options, value.maps)
