"""Weights under other names: tables of which of our tensors is made of which of theirs, read both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.designs import parts_at
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interop.forms import Form, Joined, Rows

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Pair:
    """One of our tensors and those of theirs that it is made of.

    A `*` in `ours` stands for one step of a path; each `*` in `theirs` takes the same step again, in order. A pair whose
    `ours` the model does not have says nothing; of several with the same `ours` the first is the one that is written,
    the others are read where a file has them.
    """

    ours: str
    theirs: tuple[str, ...]
    form: Form = Joined()

    def read(self, theirs: Mapping[str, Tensor]) -> Tensor:
        """Our tensor from theirs."""
        return self.form.read([theirs[name] for name in self.theirs])

    def write(self, ours: Tensor, sizes: Sequence[int]) -> dict[str, Tensor]:
        """Their tensors from ours; `sizes` are the rows of each where ours joins several."""
        made = self.form.write(ours, sizes)
        return {name: each for name, each in zip(self.theirs, made, strict=True) if each is not None}

    def under(self, prefix: str) -> Pair:
        """The same pair where all their names begin with `prefix`."""
        return replace(self, theirs=tuple(f"{prefix}{name}" for name in self.theirs))

    def inside(self, place: str) -> Pair:
        """The same pair of a model that stands at a `place` in ours."""
        return replace(self, ours=f"{place}.{self.ours}")

    def at(self, name: str) -> Pair | None:
        """This pair for one tensor of ours, where its pattern matches."""
        steps = re.fullmatch(re.escape(self.ours).replace(r"\*", "([^.]+)"), name)
        if steps is None:
            return None
        theirs = list(self.theirs)
        for i, each in enumerate(theirs):
            for step in steps.groups()[: each.count("*")]:
                each = each.replace("*", step, 1)
            theirs[i] = each
        return replace(self, ours=name, theirs=tuple(theirs))


def layer(ours: str, *theirs: str, bias: bool = True, transposed: bool = False, form: Form | None = None) -> list[Pair]:
    """The weight of a layer and, unless it has none, its bias; `form` is that of both."""
    weight = Pair(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), form or Joined(transposed))
    return [weight, Pair(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs), form or Joined())][: 1 + bias]


def batch_norm(ours: str, theirs: str) -> list[Pair]:
    """A batch norm, its running figures among it."""
    running = ("running_mean", "running_var", "num_batches_tracked")
    return [*layer(ours, theirs), *(Pair(f"{ours}.{name}", (f"{theirs}.{name}",)) for name in running)]


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and saved buffers of a module, tied ones once, under their first name."""
    return {names[0]: tensor for tensor, names in _groups(module)}


def resolve(model: nn.Module, pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    """For each tensor of a model the pairs that speak of it under any of its names, in the order of the table."""
    pairs = list(pairs)
    return {
        names[0]: [replace(found, ours=names[0]) for pair in pairs for name in names if (found := pair.at(name))]
        for _, names in _groups(model)
    }


@torch.no_grad()
def fill(
    model: nn.Module,
    pairs: Iterable[Pair],
    theirs: Mapping[str, Tensor],
    *,
    shapes: Shapes | None = None,
    dtype: torch.dtype | None = None,
    new: Sequence[str] = (),
    unused: Sequence[str] = (),
) -> None:
    """Copy their tensors into our model, which may be on the meta device: they are then held once, in ours.

    Every tensor of both must have its place in the table, and fit, but for those of the parts `new`, which start afresh,
    and those of theirs that match a pattern in `unused`. All faults are told at once, before anything is copied.
    """
    shapes = {name: tuple(each.shape) for name, each in theirs.items()} if shapes is None else shapes
    ours, found = tensors(model), resolve(model, pairs)
    fresh = {name for name in ours if any(name == path or name.startswith(f"{path}.") for path in new)}
    spoken = {theirs for each in found.values() for pair in each for theirs in pair.theirs}
    left = [name for name in shapes if name not in spoken and not any(fnmatchcase(name, p) for p in unused)]
    chosen = _checked({name: each for name, each in found.items() if name not in fresh}, ours, shapes, left)
    for pair, *others in chosen:
        value = pair.read(theirs)
        for other in others:
            if not torch.equal(other.read(theirs), value):
                raise BadInput(
                    f"'{pair.ours}' is one tensor in the design, and {_list(pair.theirs)} and {_list(other.theirs)} of "
                    "the checkpoint differ; is it tied in the config and not in the file?"
                )
        _put(model, pair.ours, ours[pair.ours], value, dtype)
    _complete(model, new, dtype)


def write(model: nn.Module, pairs: Iterable[Pair]) -> dict[str, Tensor]:
    """Their tensors from ours; a tensor that the table has no place for is refused with its path."""
    made: dict[str, Tensor] = {}
    rows: dict[str, dict[int, Tensor]] = {}
    ours = tensors(model)
    for name, found in resolve(model, pairs).items():
        if not found:
            raise DoesNotFit("the format has no place for this tensor", name)
        form = found[0].form
        for theirs, value in found[0].write(ours[name].detach(), rows_of(model, found[0], ours[name])).items():
            if isinstance(form, Rows):
                rows.setdefault(theirs, {})[form.first] = value
                continue
            if theirs in made and not torch.equal(made[theirs], value):
                raise DoesNotFit(f"the format has one '{theirs}' for several tensors, and here they differ", name)
            made[theirs] = value
    return made | {theirs: torch.cat([each[at] for at in sorted(each)]) for theirs, each in rows.items()}


def _checked(
    found: Mapping[str, list[Pair]], ours: Mapping[str, Tensor], shapes: Shapes, left: Sequence[str]
) -> list[list[Pair]]:
    """For each of our tensors the pairs that the checkpoint has; all that is missing, too much or misshapen is listed."""
    chosen: list[list[Pair]] = []
    lacking: list[str] = []
    homeless: list[str] = []
    misshapen: list[str] = []
    for name, each in found.items():
        here = [pair for pair in each if all(theirs in shapes for theirs in pair.theirs)]
        if not each:
            homeless.append(name)
        elif not here:
            lacking += [theirs for theirs in each[0].theirs if theirs not in shapes]
        else:
            chosen.append(here)
            misshapen += _misshapen(here[0], tuple(ours[name].shape), shapes)
    faults = [
        ("the checkpoint lacks", lacking),
        ("the checkpoint has what the design has no place for:", left),
        ("the checkpoint fills no", homeless),
        ("of another shape:", misshapen),
    ]
    if any(names for _, names in faults):
        told = "; ".join(f"{what} {_list(names)}" for what, names in faults if names)
        raise BadInput(f"{told}. Is it a checkpoint of this system and version?")
    return chosen


def _misshapen(pair: Pair, expected: tuple[int, ...], shapes: Shapes) -> list[str]:
    given = {name: torch.empty(shapes[name], device="meta") for name in pair.theirs}
    told = ", ".join(f"{name} {tuple(shapes[name])}" for name in pair.theirs)
    try:
        shape = tuple(pair.read(given).shape)
    except (RuntimeError, IndexError) as error:
        return [f"{told} cannot make '{pair.ours}' {expected}: {str(error).splitlines()[0]}"]
    return [] if shape == expected else [f"{told} for '{pair.ours}' {expected} of the design"]


def _put(model: nn.Module, name: str, old: Tensor, value: Tensor, dtype: torch.dtype | None) -> None:
    if not old.is_meta:
        old.copy_(value)
        return
    place, _, last = name.rpartition(".")
    holder = model.get_submodule(place)
    kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
    made = torch.empty(value.shape, dtype=kind).copy_(value)
    if last in holder._parameters:
        holder._parameters[last] = nn.Parameter(made, requires_grad=made.is_floating_point())
    else:
        holder._buffers[last] = made


def _complete(model: Any, new: Sequence[str], dtype: torch.dtype | None) -> None:
    """Make what no checkpoint holds: new parts, and the constants that parts make for themselves; tie what is tied."""
    for path in new:
        for holder, name, part in parts_at(model, path):
            old: Any = part
            made = old.spec.build(*old.place)
            model.start(made)
            holder._modules[name] = made.to(dtype).train(model.training)
    for module in model.modules():
        lost = [
            n
            for n in module._non_persistent_buffers_set
            if module._buffers[n] is not None and module._buffers[n].is_meta
        ]
        if lost:
            made = module.spec.build(*module.place)
            for name in lost:
                module._buffers[name] = made._buffers[name]
    if hasattr(model, "tie"):
        model.tie()


def rows_of(model: nn.Module, pair: Pair, ours: Tensor) -> list[int]:
    """The rows of each of theirs in ours: what the part that holds the projection says in `sizes`, or equal shares."""
    parts = len(pair.theirs)
    owner = model.get_submodule(".".join(pair.ours.split(".")[:-2]))
    sizes: Any = getattr(owner, "sizes", None)
    if isinstance(sizes, tuple) and len(sizes) == parts and sum(sizes) == len(ours):
        return list(sizes)
    return [len(ours) // parts] * parts if ours.dim() else [1]


def _groups(module: nn.Module) -> list[tuple[Tensor, list[str]]]:
    """Each tensor of a module with all its names."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return list(found.values())


def _list(names: Iterable[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
