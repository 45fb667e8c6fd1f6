"""The edits of a design on a built, trained model: every weight that an edit does not touch stays, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from everyformer.contracts import LinearMap
from everyformer.designs import Design, Edit, design_of, parts_at, seeded
from everyformer.errors import DoesNotFit, UnknownName
from everyformer.registry import Part
from everyformer.specs import Spec, signature
from everyformer.units import Units, chosen


def swap(model: nn.Module, pattern: str | Sequence[str], new: Edit, *, seed: int | None = None) -> nn.Module:
    """Exchange parts of a built model in place. See `Design.swap`.

    What comes to stand for a linear map stands for the map that was there, as nearly as its form can.
    """
    before = design_of(model)
    paths = before.places(pattern)
    surgery = _Surgery(model, before.exchange(paths, new))
    with seeded(seed):
        for path in _outermost(paths):
            surgery.exchange(path)
        surgery.finish()
    return model


def resize(model: nn.Module, pattern: str, value: Any, *, seed: int | None = None) -> nn.Module:
    """Change an option of parts of a built model in place, in which they grow or shrink. See `Design.set`.

    Each part says what it takes over of its old weights (`Part.inherit`).
    """
    before = design_of(model)
    surgery = _Surgery(model, before.set(pattern, value))
    with seeded(seed):
        for path in before.find(pattern.rpartition(".")[0]):
            surgery.resize(path)
        surgery.finish()
    return model


def keep(model: nn.Module, kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """Make parts of a built model smaller in place: those at the paths keep these of their units, by number.

    `ef.keep(model, {"backbone.blocks.0.mixer": [0, 2, 3]})` leaves three heads. A head whose keys others share stays or
    goes with them.
    """
    before = after = design_of(model)
    found: dict[str, Units] = {}
    for path in kept:
        parts = parts_at(model, path)
        units = parts[0][2].units() if parts and isinstance(parts[0][2], Part) else None
        if units is None:
            known = [each for each, _ in before.walk() if any(part.units() for _, _, part in parts_at(model, each))]
            raise UnknownName("part with heads or hidden units", path, known)
        found[path] = units
        options = units.of(len(chosen(kept[path], units.count)))
        own = before.get(path).part
        if not set(options) <= set(signature(own)):
            lacking = next(each for each in options if each not in signature(own))
            raise DoesNotFit(
                f"{own.__name__} has no option '{lacking}', so that its {units.name} cannot be fewer", path
            )
        after = after.swap(path, after.get(path).but(**options))
    surgery = _Surgery(model, after)
    for path, units in found.items():
        surgery.refuse_to_keep(path, units)
    for path in found:
        surgery.resize(path, kept[path])
    surgery.finish()
    return model


def insert(model: nn.Module, path: str, new: Spec[Any], *, seed: int | None = None) -> nn.Module:
    """Put a part into a list of parts of a built model, in place. See `Design.insert`."""
    surgery = _Surgery(model, design_of(model).insert(path, new))
    with seeded(seed):
        surgery.insert(path)
        surgery.finish()
    return model


def remove(model: nn.Module, pattern: str) -> nn.Module:
    """Take parts out of a built model in place. See `Design.remove`."""
    before = design_of(model)
    surgery = _Surgery(model, before.remove(pattern))
    for path in reversed(before.find(pattern)):
        surgery.remove(path)
    surgery.finish()
    return model


class _Surgery:
    """A model, and beside it, on the meta device, the one that its edited design makes.

    Building the planned one first refuses an edit that does not fit before anything is touched.
    """

    def __init__(self, model: nn.Module, after: Design) -> None:
        self.model, self.after = model, after
        self.forms = design_of(model).forms()
        self.planned: nn.Module = after.build(device="meta")

    def exchange(self, path: str) -> None:
        """Build anew what stands at a path, in all its copies."""
        for (holder, name, old), planned in self._beside(path):
            new = holder._modules[name] = self._like(planned)
            if isinstance(new, LinearMap):
                new.inherit(old)

    def refuse_to_keep(self, path: str, units: Units) -> None:
        """Refuse a part in which something else than its units changes with their number, or may not."""
        self._refuse_forms(path)
        for (_, _, old), planned in self._beside(path):
            sizes = {name: each.shape for name, each in planned.state_dict().items()}
            for name, each in old.state_dict().items():
                if name not in units.places and sizes.get(name) != each.shape:
                    raise DoesNotFit(
                        f"{type(old).__name__} cannot be made with fewer {units.name}, as its '{name}' {tuple(each.shape)} "
                        "changes with them",
                        path,
                    )

    def resize(self, path: str, kept: Sequence[int] | None = None) -> None:
        """Build anew what stands at a path, with the weights that fit of what stood there."""
        self._refuse_forms(path)
        for (holder, name, old), planned in self._beside(path):
            new = self._like(planned)
            new.inherit(old, *() if kept is None else (kept,))  # type: ignore[operator]
            holder._modules[name] = new

    def _refuse_forms(self, path: str) -> None:
        inside = [form for form in self.forms if form.startswith(f"{path}.")]
        if inside:
            raise DoesNotFit(f"it holds a map in another form at '{inside[0]}'; take that out first (ef.remove)", path)

    def insert(self, path: str) -> None:
        """Build what the plan has at a path, and put it into the list there."""
        place, _, index = path.rpartition(".")
        parent, _, option = place.rpartition(".")
        for (_, _, owner), planned in self._beside(parent):
            listed: nn.ModuleList = owner._modules[option]  # type: ignore[assignment]
            new = self._like(planned._modules[option][int(index)])  # type: ignore[index, arg-type]
            self._alter(owner, partial(listed.insert, int(index), new))

    def remove(self, path: str) -> None:
        """Take out what stands at a path."""
        if path in self.forms:
            for holder, name, form in parts_at(self.model, path):
                holder._modules[name] = form.plain()  # type: ignore[operator]
            return
        place, _, last = path.rpartition(".")
        if not last.isdigit():
            for _, _, owner in parts_at(self.model, place):
                self._alter(owner, partial(setattr, owner, last, None))
            return
        parent, _, option = place.rpartition(".")
        for _, _, owner in parts_at(self.model, parent):
            listed: nn.ModuleList = owner._modules[option]  # type: ignore[assignment]
            self._alter(owner, partial(listed.__delitem__, int(last)))

    def finish(self) -> None:
        """Build anew what its place now gives something else, tie what is tied, and write down the new design."""
        for path, spec in self.after.walk():
            for (holder, name, built), planned in self._beside(path):
                if built.place != planned.place:
                    built = holder._modules[name] = self._like(planned)
                built.spec = spec
        tie = getattr(self.model, "tie", None)
        if tie is not None:
            tie()

    def _alter(self, owner: Any, change: Callable[[], Any]) -> None:
        owner.alter(change, lambda planned, *place: self._started(planned.build(*place)))

    def _beside(self, path: str) -> Iterator[tuple[tuple[nn.Module, str, Any], Any]]:
        planned = [part for _, _, part in parts_at(self.planned, path)]
        return zip(parts_at(self.model, path), planned, strict=True)

    def _like(self, planned: Any) -> nn.Module:
        return self._started(planned.spec.build(*planned.place))

    def _started(self, built: nn.Module) -> nn.Module:
        start = getattr(self.model, "start", None)
        if start is not None:
            start(built)
        weight = next(self.model.parameters(), None)
        if weight is not None:
            built.to(device=weight.device, dtype=weight.dtype)
        return built.train(self.model.training)


def _outermost(paths: list[str]) -> list[str]:
    kept: list[str] = []
    for path in paths:
        if not any(path.startswith(f"{outer}.") for outer in kept):
            kept.append(path)
    return kept
