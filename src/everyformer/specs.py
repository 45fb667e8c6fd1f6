"""Spec: a part's constructor call, written down but not yet made."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.masks import KINDS, Mask
from everyformer.registry import ROOMS, find_part, parts

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Spec(Generic[T_co]):
    """A part's class and its options, other specs among them: frozen, comparable, printed as it was written.

    `maps` says what stands in place of plain linear maps inside the part, by the names they have there.
    """

    __slots__ = ("_hash", "maps", "options", "part")
    part: Callable[..., T_co]
    options: Mapping[str, Any]
    maps: Mapping[str, Spec[Any]]
    _hash: int | None

    def __init__(
        self, part: Callable[..., T_co], options: Mapping[str, Any], maps: Mapping[str, Spec[Any]] | None = None
    ) -> None:
        given = {name: frozen(value) for name, value in options.items()}
        check(part, given)
        object.__setattr__(self, "part", part)
        object.__setattr__(self, "options", types.MappingProxyType(given))
        object.__setattr__(self, "maps", types.MappingProxyType(dict(maps or {})))
        object.__setattr__(self, "_hash", None)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Spec is frozen; make another: spec.but({name}=...)")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Spec)
            and self.part == other.part
            and dict(self.options) == dict(other.options)
            and dict(self.maps) == dict(other.maps)
        )

    def __hash__(self) -> int:
        known = self._hash
        if known is None:
            known = hash((self.part, frozenset(self.options.items()), frozenset(self.maps.items())))
            object.__setattr__(self, "_hash", known)
        return known

    def __reduce__(self) -> Any:
        return Spec, (self.part, dict(self.options), dict(self.maps))

    def __repr__(self) -> str:
        inner = "".join(f", {name}={_show(value)}" for name, value in self.options.items())
        maps = f".map({dict(self.maps)!r})" if self.maps else ""
        return f"ef.spec({self.name}{inner}){maps}"

    @property
    def name(self) -> str:
        """'room.Class'."""
        room = getattr(self.part, "room", "")
        return f"{room}.{self.part.__name__}" if room else self.part.__name__

    def get(self, option: str) -> Any:
        """The value of an option, its default where it was not written."""
        if option in self.options:
            return self.options[option]
        return signature(self.part)[option].default

    def but(self, **changes: Any) -> Spec[T_co]:
        """The same call with some options exchanged."""
        return Spec(self.part, {**self.options, **changes}, self.maps)

    def map(self, forms: Mapping[str, Spec[Any] | None]) -> Spec[T_co]:
        """The same part with other forms of the linear maps inside it, by name; None for the plain one."""
        kept = {**self.maps, **forms}
        return Spec(self.part, self.options, {name: form for name, form in kept.items() if form is not None})

    def build(self, *place: Any) -> T_co:
        """Make the part; `place` is what the place where it stands gives it (a width, a number of heads)."""
        try:
            made = self.part(*place, **self.options)
            for name, form in self.maps.items():
                made.put_map(name, form)  # type: ignore[attr-defined]
        except DoesNotFit:
            raise
        except (EveryformerError, ValueError) as error:
            raise DoesNotFit(f"{self.name}: {error}") from error
        except (RuntimeError, ZeroDivisionError) as error:
            raise DoesNotFit(f"{self!r} in a place of {place}: {error}") from error
        made.spec, made.place = self, place  # type: ignore[attr-defined]
        return made


@overload
def spec(part: Callable[Concatenate[int, int, P], T], /, *args: P.args, **options: P.kwargs) -> Spec[T]: ...
@overload
def spec(part: Callable[Concatenate[int, P], T], /, *args: P.args, **options: P.kwargs) -> Spec[T]: ...
@overload
def spec(part: Callable[Concatenate[tuple[int, ...], int, P], T], /, *args: P.args, **options: P.kwargs) -> Spec[T]: ...
@overload
def spec(part: Callable[Concatenate[tuple[int, ...], P], T], /, *args: P.args, **options: P.kwargs) -> Spec[T]: ...
@overload
def spec(part: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Spec[T]: ...
def spec(part: Any, /, *args: Any, **options: Any) -> Spec[Any]:
    """Write down a part's constructor call: `ef.spec(ef.mixers.Attention, heads=8)`.

    Options are given by keyword; what the place gives (a width) is left out. An unknown option is refused here.
    """
    if args:
        raise EveryformerError(f"options of {part.__name__} are given by keyword; given {args!r} without a name")
    return Spec(part, options)


@cache
def signature(part: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The options of a part: its keyword-only parameters."""
    found = inspect.signature(part).parameters
    return {n: p for n, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


@cache
def _hints(part: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(part.__init__ if isinstance(part, type) else part)  # type: ignore[misc]
    except NameError:
        return {}


def check(part: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options that the part's constructor does not have, or of a plainly wrong type."""
    known = signature(part)
    for name, value in options.items():
        if name not in known:
            raise UnknownName(f"option of {part.__name__}", name, known)
        hint = _hints(part).get(name)
        if hint is not None and not _accepts(hint, value):
            message = f"option '{name}' of {part.__name__} takes {_shown(hint)}; given {value!r}"
            if isinstance(value, Spec) and (fitting := _fitting(hint)):
                raise DoesNotFit(f"{message}; what fits: {', '.join(fitting[:40])}", name)
            raise EveryformerError(message)
    missing = [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in options]
    if missing:
        raise EveryformerError(f"{part.__name__} needs the option '{missing[0]}'; write {missing[0]}=...")


def takes(part: Callable[..., Any], option: str, value: Any) -> bool:
    """Whether the part has this option, and the value is not plainly of a wrong type."""
    return option in signature(part) and _accepts(_hints(part).get(option, Any), frozen(value))


def _accepts(hint: Any, value: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(each, value) for each in inner)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple and isinstance(value, tuple):
        hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(hints) == len(value) and all(map(_accepts, hints, value))
    if origin is Spec:
        return isinstance(value, Spec) and _makes(inner[0], value.part)
    if origin is not None:
        return not isinstance(origin, type) or isinstance(value, origin)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def _makes(hint: Any, part: Any) -> bool:
    """Whether a part is what the type asks for; of a function that makes a part nothing is known."""
    if not isinstance(part, type) or isinstance(hint, TypeVar) or hint is Any:
        return True
    return issubclass(part, typing.get_args(hint) or hint)


def _shown(hint: Any) -> str:
    inner = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_shown, inner))
    if typing.get_origin(hint) is Spec:
        return f"ef.spec(...) of a {_shown(inner[0])}"
    if typing.get_origin(hint) is tuple:
        return f"a list of {_shown(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} values, {inner}"
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _fitting(hint: Any) -> list[str]:
    """The registered parts that an option of this type takes."""
    found = [name for each in typing.get_args(hint) for name in _fitting(each)]
    if typing.get_origin(hint) is Spec:
        wanted = typing.get_args(hint)[0]
        found += [f"{room}.{name}" for room in ROOMS for name, cls in parts(room).items() if _makes(wanted, cls)]
    return found


def frozen(value: Any) -> Any:
    """Lists as tuples, also inside each other."""
    return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def _show(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Spec):
        return "(" + ", ".join(f"{n} * [{s!r}]" if n > 1 else repr(s) for n, s in runs(value)) + ")"
    return repr(value)


def runs(values: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """Equal neighbours counted: (a, a, b) is [(2, a), (1, b)]."""
    counted: list[tuple[int, Any]] = []
    for value in values:
        if counted and counted[-1][1] == value:
            counted[-1] = counted[-1][0] + 1, value
        else:
            counted.append((1, value))
    return counted


def to_plain(value: Any) -> Any:
    """A spec as plain dictionaries, lists and numbers, ready for YAML or JSON."""
    if isinstance(value, Spec):
        plain = {value.name: {name: to_plain(each) for name, each in value.options.items()}}
        return {**plain, "maps": {name: to_plain(each) for name, each in value.maps.items()}} if value.maps else plain
    if isinstance(value, Mask):
        if type(value).__name__ not in KINDS:
            raise EveryformerError(f"a mask by function cannot be written down: {value!r}; use ef.masks kinds")
        return {f"masks.{type(value).__name__}": {name: to_plain(v) for name, v in vars(value).items()}}
    if isinstance(value, tuple):
        return [
            {"repeat": count, "part": to_plain(each)} if count > 1 and isinstance(each, Spec) else item
            for count, each in runs(value)
            for item in ([to_plain(each)] if isinstance(each, Spec) else [to_plain(each)] * count)
        ]
    return value


def from_plain(value: Any) -> Any:
    """What `to_plain` wrote."""
    if isinstance(value, Mapping):
        if set(value) == {"repeat", "part"}:
            raise EveryformerError("'repeat' stands only inside a list of parts")
        forms = value.get("maps", {})
        if not isinstance(forms, Mapping):
            raise EveryformerError(f"expected what stands for linear maps by name, given maps: {forms!r}")
        maps = {name: from_plain(form) for name, form in forms.items()}
        value = {name: options for name, options in value.items() if name != "maps"}
        if len(value) != 1 or not isinstance(next(iter(value)), str):
            raise EveryformerError(f"expected one 'room.Part: {{options}}', given the keys {[*value]}")
        ((name, options),) = value.items()
        if options is not None and not isinstance(options, Mapping):
            raise EveryformerError(f"expected the options of '{name}' by name, given {options!r}")
        given = {key: from_plain(each) for key, each in (options or {}).items()}
        if name.startswith("masks."):
            kind = name.removeprefix("masks.")
            if kind not in KINDS:
                raise UnknownName("mask", kind, KINDS)
            try:
                return KINDS[kind](**given)
            except TypeError as error:
                raise EveryformerError(f"masks.{kind}: {error}") from None
        return Spec(find_part(name), given, maps)
    if isinstance(value, (list, tuple)):
        listed: list[Any] = []
        for each in value:
            if isinstance(each, Mapping) and set(each) == {"repeat", "part"}:
                listed += [from_plain(each["part"])] * int(each["repeat"])
            else:
                listed.append(from_plain(each))
        return tuple(listed)
    return value
