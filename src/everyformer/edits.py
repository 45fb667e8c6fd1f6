"""The edits of a design on a built, trained model: every weight that an edit does not touch stays, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from everyformer.contracts import LinearMap
from everyformer.designs import Design, Edit, design_of, parts_at, seeded
from everyformer.errors import DoesNotFit
from everyformer.specs import Spec


def swap(model: nn.Module, pattern: str | Sequence[str], new: Edit, *, seed: int | None = None) -> nn.Module:
    """Exchange parts of a built model in place. See `Design.swap`.

    What comes to stand for a linear map stands for the map that was there, as nearly as its form can.
    """
    before = design_of(model)
    surgery = _Surgery(model, before.swap(pattern, new))
    with seeded(seed):
        for path in _outermost(before.places(pattern)):
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

    def resize(self, path: str) -> None:
        """Build anew what stands at a path, with the weights that fit of what stood there."""
        inside = [form for form in self.forms if form.startswith(f"{path}.")]
        if inside:
            raise DoesNotFit(f"it holds a map in another form at '{inside[0]}'; take that out first (ef.remove)", path)
        for (holder, name, old), planned in self._beside(path):
            new = self._like(planned)
            new.inherit(old)  # type: ignore[operator]
            holder._modules[name] = new

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
