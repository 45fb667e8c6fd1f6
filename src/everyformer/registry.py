"""What every part is, and the registry of parts and systems."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn

from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.units import Units, hand_over, share

if TYPE_CHECKING:
    from everyformer.designs import Design
    from everyformer.specs import Spec

ROOMS = (
    "embeddings", "positions", "scores", "mixers", "feedforward", "norms", "backbones", "reduction", "tokenizers", "heads",
    "models", "objectives", "generation", "compression", "interpret",
)  # fmt: skip

CAPABILITIES = {
    "causal": "never lets a later token change an earlier one when the place is causal",
    "masked": "honours any mask of its place",
    "padding": "honours padding by itself",
    "packed": "takes packed sequences by itself",
    "incremental": "works token by token with a cache",
    "weights": "counts a merged token as the tokens that it stands for",
    "memory": "attends to a memory and not to the tokens of its place",
    "grid": "needs the tokens to fill a grid",
    "ordered": "tells tokens apart by their order, without positions",
    "condition": "needs a condition in the context",
    "attended": "shows what it attended with to a reduction that asks for it",
}
"""What a part can declare; a contract test holds it to each."""

_parts: dict[str, dict[str, type]] = {}
_systems: dict[str, System] = {}
_methods: dict[str, Method] = {}


class Part(nn.Module):
    """Base of parts: builds the parts inside it, naming the place in every error."""

    room: ClassVar[str] = ""
    capabilities: frozenset[str] = frozenset()
    spec: Spec[Any] | None = None
    """The spec this part was built from, where it was built from one."""
    place: tuple[Any, ...] = ()
    """What its place gave it."""
    linear_map: ClassVar[bool] = False
    """Whether it stands for a linear map inside another part; then its place gives inputs, outputs and whether it has a bias."""

    def alter(self, change: Callable[[], Any], build: Callable[..., nn.Module]) -> None:
        """Let an edit of a built model put in or take out a part here; `build(spec, *place)` makes what goes with it."""
        change()

    def units(self) -> Units | None:
        """The like units that this part is made of, and can be made with fewer of; None where there are none."""
        return None

    def inherit(self, old: nn.Module, kept: Sequence[int] | None = None) -> None:
        """Take over the weights of the part that stood here, of another size: each tensor where both have it.

        Of its units the first ones, or those that are `kept`.
        """
        given = old.state_dict(keep_vars=True)
        shared = share(self.units(), old.units(), kept)  # type: ignore[operator]
        with torch.no_grad():
            for name, mine in self.state_dict(keep_vars=True).items():
                if name in shared:
                    hand_over(mine, given[name], *shared[name])
                elif name in given and given[name].dim() == mine.dim():
                    both = tuple(slice(min(a, b)) for a, b in zip(mine.shape, given[name].shape))
                    mine[both] = given[name][both]

    def plain_maps(self) -> dict[str, nn.Linear]:
        """The plain linear maps of this part by name, those of the parts inside it left out."""
        inner = [name for name, module in self.named_modules() if name and getattr(module, "spec", None) is not None]
        return {
            name: module
            for name, module in self.named_modules()
            if type(module) is nn.Linear and not any(name.startswith(f"{each}.") for each in inner)
        }

    def put_map(self, name: str, form: Spec[Any]) -> None:
        """Let another form of linear map stand where the plain one `name` stands."""
        known = self.plain_maps()
        if name not in known:
            raise DoesNotFit(
                f"{type(self).__name__} has no plain linear map '{name}'; it has: {', '.join(known) or 'none'}"
            )
        if not getattr(form.part, "linear_map", False):
            raise DoesNotFit(f"{form.name} does not stand for a linear map; parts of the room compression do", name)
        old = known[name]
        holder, _, last = name.rpartition(".")
        try:
            self.get_submodule(holder)._modules[last] = form.build(
                old.in_features, old.out_features, old.bias is not None
            )
        except DoesNotFit as error:
            raise error.inside(name) from None

    def make(self, name: str, spec: Any, *place: Any) -> Any:
        """Build the part (or None, or the list of parts) that stands at the option `name`."""
        if isinstance(spec, tuple):
            return nn.ModuleList(self.make(f"{name}.{i}", each, *place) for i, each in enumerate(spec))
        if spec is None:
            return None
        if not hasattr(spec, "build"):
            raise DoesNotFit(f"expected ef.spec(...) of a part, given {spec!r}", name)
        try:
            return spec.build(*place)
        except DoesNotFit as error:
            raise error.inside(name) from None


C = TypeVar("C", bound=type)


def part(room: str) -> Callable[[C], C]:
    """Class decorator: the part stands in `room` and the contract test of the room runs on it."""
    if room not in ROOMS:
        raise UnknownName("room", room, ROOMS)

    def register(cls: C) -> C:
        known = _parts.setdefault(room, {})
        if cls.__name__ in known and known[cls.__name__].__module__ != cls.__module__:
            raise EveryformerError(f"room '{room}' has a part '{cls.__name__}' already, in {known[cls.__name__]}")
        known[cls.__name__] = cls
        cls.room = room  # type: ignore[attr-defined]
        return cls

    return register


def parts(room: str) -> dict[str, type]:
    """The parts of a room by name."""
    if room not in ROOMS:
        raise UnknownName("room", room, ROOMS)
    import_all(room)
    return dict(sorted(_parts.get(room, {}).items()))


def find_part(name: str) -> type:
    """The class behind 'room.Name'."""
    room, _, short = name.partition(".")
    known = parts(room)
    if short not in known:
        raise UnknownName(f"part in room '{room}'", short, known)
    return known[short]


@cache
def import_all(room: str) -> None:
    """Import every module of a room, so that its parts are registered."""
    try:
        package = importlib.import_module(f"everyformer.{room}")
    except ModuleNotFoundError as error:
        if error.name == f"everyformer.{room}":
            return
        raise
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        importlib.import_module(f"everyformer.{room}.{found.name}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A named, published idea: where it comes from."""

    name: str
    make: Callable[..., Any]
    title: str
    idea: str
    arxiv: str | None
    year: int
    authors: str

    @property
    def paper(self) -> str:
        """Authors, year, title and number."""
        return f"{self.authors} ({self.year}), {self.title}" + (f", arXiv {self.arxiv}" if self.arxiv else "")


@dataclass(frozen=True, kw_only=True)
class Method(Published):
    """A published method that is applied to a trained model."""

    @property
    def call(self) -> str:
        """How it is called: 'ef.compression.gptq(model, ...)'."""
        import inspect

        room = self.make.__module__.split(".")[1]
        return f"ef.{room}.{self.make.__name__}({', '.join(inspect.signature(self.make).parameters)})"


@dataclass(frozen=True, kw_only=True)
class System(Published):
    """A published design, and how it is made."""

    tasks: tuple[str, ...]
    """What the design answers as it stands: 'image-classification', 'translation', ..."""
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default: str | None = None
    """The size that is made when none is named."""

    def design(self, size: str | None = None, **options: Any) -> Design:
        """The design at a published size, with options changed."""
        import inspect

        from everyformer.specs import check, frozen

        if size is not None and size not in self.sizes:
            raise UnknownName(f"size of '{self.name}'", str(size), self.sizes)
        known = inspect.signature(self.make).parameters
        for option in options:
            if option not in known:
                raise UnknownName(f"option of '{self.name}'", option, [*known, "size"])
        chosen = {**self.sizes.get(size or self.default or "", {}), **options}
        chosen = {name: frozen(value) for name, value in chosen.items()}
        check(self.make, chosen)
        try:
            return self.make(**chosen)
        except (ArithmeticError, IndexError) as error:
            raise DoesNotFit(f"'{self.name}' cannot be made with {chosen}: {error}") from error


def system(
    name: str,
    *,
    title: str,
    idea: str,
    year: int,
    authors: str,
    arxiv: str | None = None,
    tasks: Iterable[str] = (),
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    default: str | None = None,
) -> Callable[[Callable[..., Design]], Callable[..., Design]]:
    """Function decorator: the function makes the design of the published system `name`."""

    def register(make: Callable[..., Design]) -> Callable[..., Design]:
        _systems[name] = System(
            name=name, make=make, title=title, idea=idea, arxiv=arxiv, year=year, authors=authors, tasks=tuple(tasks),
            sizes=sizes or {}, default=default,
        )  # fmt: skip
        return make

    return register


M = TypeVar("M", bound=Callable[..., Any])


def method(name: str, *, title: str, idea: str, year: int, authors: str, arxiv: str | None = None) -> Callable[[M], M]:
    """Function decorator: the function applies the published method `name` to a trained model."""

    def register(make: M) -> M:
        _methods[name] = Method(
            name=name, make=make, title=title, idea=idea, arxiv=arxiv, year=year, authors=authors
        )  # fmt: skip
        return make

    return register


def systems() -> dict[str, System]:
    """The registered systems by name."""
    import_all("published")
    return dict(sorted(_systems.items()))


def find_system(name: str) -> System:
    """The system of that name."""
    known = systems()
    if name not in known:
        raise UnknownName("system", name, known)
    return known[name]


def methods() -> dict[str, Method]:
    """The registered methods by name."""
    for room in ROOMS:
        import_all(room)
    return dict(sorted(_methods.items()))


def find_published(name: str) -> System | Method:
    """The system or the method of that name."""
    known: dict[str, System | Method] = {**methods(), **systems()}
    if name not in known:
        raise UnknownName("system or method", name, known)
    return known[name]
