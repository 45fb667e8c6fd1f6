"""Weights under other names: tables of which of our tensors is made of which of theirs, read both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.designs import Design, design_of
from everyformer.errors import BadInput, DoesNotFit


@dataclass(frozen=True)
class Pair:
    """One of our tensors and those of theirs that it is made of, one under the other."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    """True where they store (inputs, outputs)."""

    def read(self, theirs: Mapping[str, Tensor]) -> Tensor:
        """Our tensor from theirs."""
        found = [theirs[name].mT if self.transposed else theirs[name] for name in self.theirs]
        return torch.cat(found) if len(found) > 1 else found[0]

    def write(self, ours: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Their tensors, of the `shapes` they have, from ours."""
        sizes = [shapes[name][-1 if self.transposed else 0] for name in self.theirs]
        return {name: t.mT if self.transposed else t for name, t in zip(self.theirs, ours.split(sizes), strict=True)}


def layer(ours: str, *theirs: str, bias: bool = True, transposed: bool = False) -> list[Pair]:
    """The weight of a layer and, unless it has none, its bias."""
    pairs = [Pair(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), transposed)]
    return [*pairs, Pair(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs))] if bias else pairs


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and saved buffers of a module, tied ones once, under their first name."""
    seen: dict[int, str] = {}
    found = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if seen.setdefault(id(tensor), name) == name:
            found[name] = tensor
    return found


def fill(model: nn.Module, pairs: Iterable[Pair], theirs: Mapping[str, Tensor]) -> None:
    """Copy their tensors into our model; every tensor of both must have its place in the table, and fit."""
    pairs, ours = list(pairs), tensors(model)
    named = {name for pair in pairs for name in pair.theirs}
    _refuse("the checkpoint lacks", named - set(theirs))
    _refuse("the checkpoint has tensors that the design has no place for:", set(theirs) - named)
    _refuse("the checkpoint fills no", set(ours) - {pair.ours for pair in pairs})
    _refuse("the design has no", {pair.ours for pair in pairs} - set(ours))
    with torch.no_grad():
        for pair in pairs:
            value = pair.read(theirs)
            if value.shape != ours[pair.ours].shape:
                raise BadInput(
                    f"{', '.join(pair.theirs)}: given {tuple(value.shape)}, and '{pair.ours}' of the design is "
                    f"{tuple(ours[pair.ours].shape)}; build the design with the sizes of the checkpoint"
                )
            ours[pair.ours].copy_(value)


def pour(model: nn.Module, into: Any, design: Design, pairs: Iterable[Pair]) -> Any:
    """The way back: copy our weights into their model, whose design and table are given; the designs must be equal."""
    difference = design.diff(design_of(model))
    if difference != "no difference":
        raise DoesNotFit(f"{type(into).__name__} cannot hold this design; it would have to be:\n{difference}")
    pairs, ours, theirs = list(pairs), tensors(model), tensors(into)
    shapes = {name: tensor.shape for name, tensor in theirs.items()}
    with torch.no_grad():
        for pair in pairs:
            for name, value in pair.write(ours[pair.ours], shapes).items():
                theirs[name].copy_(value)
    return into.train(model.training)


def _refuse(what: str, names: set[str]) -> None:
    if names:
        shown = sorted(names)
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        raise BadInput(f"{what} {', '.join(shown[:5])}{more}; is it a checkpoint of this system and version?")
