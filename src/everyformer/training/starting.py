"""Training that goes on from a model trained before: its design, its weights, and what it reads its data with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from everyformer.contracts import LinearMap
from everyformer.designs import Design
from everyformer.errors import BadInput, DoesNotFit, EveryformerError
from everyformer.recipe import Recipe
from everyformer.registry import find_system
from everyformer.specs import Spec, signature

FROM = "from"
"""The key of a recipe's `design` section that names the folder."""
_KINDS = ("classes", "vocabulary")
"""What heads answer with, one of many; the task's facts have one of them at least."""
_READS = {"vocabulary": "text", "channels": "pictures", "mels": "spectrograms"}
"""What a model reads whose embedding has the option of that name."""


@lru_cache(maxsize=1)
def source(path: str) -> Any:
    """The checkpoint or the run in a folder."""
    from everyformer.interop import Checkpoint
    from everyformer.training.run import Run

    folder = Path(path).expanduser()
    if (folder / "config.json").is_file():
        return Checkpoint.open(folder)
    if not (folder / "recipe.yaml").is_file():
        raise BadInput(f"'{path}' is neither a checkpoint (config.json) nor a run; give the folder of one")
    return Run.open(folder)


def completed(recipe: Recipe) -> Recipe:
    """The recipe with what its data must be for the model that it goes on from, where it says nothing of that."""
    from everyformer.data import find_task

    if FROM not in recipe.design:
        return recipe
    path = str(recipe.design[FROM])
    if recipe.training.start is not None:
        raise EveryformerError(
            f"weights are given twice: design.from='{path}' and training.start='{recipe.training.start}'; design.from takes the "
            "design too, training.start the weights alone; leave one of them out"
        )
    options = {field.name for field in dataclasses.fields(find_task(recipe.task).Options)}
    found = source(path)
    reads = [found.design.get(place) for place in inputs_of(found.design)[:1]]
    sizes = {name: each.get(name) for each in reads for name in ("image", "channels") if name in signature(each.part)}
    said: dict[str, Any] = {"tokenizer": path, **found.reads, **sizes}
    said = {name: value for name, value in said.items() if name in options and recipe.data.get(name) is None}
    return dataclasses.replace(recipe, data={**recipe.data, **said})


def begun(path: str, facts: Mapping[str, Any]) -> Design:
    """The design of the model in a folder, with a head for data of which `facts` are known."""
    design: Design = source(path).design
    inputs = inputs_of(design)
    if not inputs:
        raise DoesNotFit(
            f"'{design.name}' has several inputs; design.from takes a model of one, or an encoder-decoder", "embedding"
        )
    reads = design.get(inputs[0])
    for fact, what in _READS.items():
        if fact in facts and fact not in signature(reads.part):
            raise DoesNotFit(f"'{path}' does not read {what}: what it reads goes into {reads.name}", inputs[0])
    for place in inputs:
        _compare(path, design, place, facts)
    held = {**facts, **({"vocabulary": design.get(inputs[-1]).get("vocabulary")} if "vocabulary" in facts else {})}
    return design.set("head", _head(design, held))


def inputs_of(design: Design) -> list[str]:
    """Where the embedding of a model stands, or those of an encoder-decoder; nowhere in one with several inputs."""
    known = signature(design.spec.part)
    places = [name for name in ("embedding", "source", "target") if name in known]
    return [name for name in places if isinstance(design.get(name), Spec)]


def places_of(design: Design) -> list[int]:
    """How many places for tokens each of the embeddings has that have a table of them."""
    tables = [design.get(place).get("positions") for place in inputs_of(design) if _positioned(design, place)]
    return [each.get("length") for each in tables if "length" in signature(each.part)]


def _positioned(design: Design, embedding: str) -> bool:
    reads = design.get(embedding)
    return "positions" in signature(reads.part) and isinstance(reads.get("positions"), Spec)


def _compare(path: str, design: Design, embedding: str, facts: Mapping[str, Any]) -> None:
    """Refuse data that an embedding, or the whole model where it says so itself, is not made for."""
    whole = signature(design.spec.part)
    holders = {name: "" if name in whole else embedding for name in facts}
    if "length" in facts and _positioned(design, embedding):
        holders["length"] = f"{embedding}.positions"
    for name, place in holders.items():
        holder = design.get(place) if place else design.spec
        has = holder.get(name) if name in signature(holder.part) else None
        enough = name in ("vocabulary", "length")
        if has is not None and not (has >= facts[name] if enough else has == facts[name]):
            told = f"'{path}' has {name} {has}, and the data {facts[name]}; give data.{name}={has}"
            raise DoesNotFit(told, f"{place}.{name}" if place else name)


def _head(design: Design, facts: Mapping[str, Any]) -> Spec[Any]:
    """The head that the model has, made for the facts, or the one that its system has for them."""
    own, kind = design.get("head"), next((kind for kind in _KINDS if kind in facts), None)
    if own is None or (kind is not None and kind not in signature(own.part)):
        system = find_system(design.name)
        options = {name: facts[name] for name in _KINDS if name in facts and name in signature(system.make)}
        if kind not in options:
            raise DoesNotFit(f"the system '{design.name}' has no head that answers with {kind}", "head")
        own = system.make(**options).get("head")
    return own.but(**{name: facts[name] for name in signature(own.part) if name in facts and name != "length"})


@torch.no_grad()
def take_over(model: nn.Module, path: str) -> str:
    """Give a model the weights of the one in a folder, where names and shapes agree; says what it took and what not."""
    from everyformer.training.averaging import weights

    theirs: nn.Module = source(path).model
    given, plain = theirs.state_dict(), dict(theirs.named_modules())
    taken: set[str] = set()
    for name, form in model.named_modules():
        if isinstance(form, LinearMap) and isinstance(plain.get(name), nn.Linear):
            form.inherit(plain[name])
            taken |= {f"{name}.{inner}" for inner in form.state_dict()}
    own = weights(model)
    for name, tensor in own.items():
        if name not in taken and name in given and given[name].shape == tensor.shape:
            tensor.copy_(given[name])
            taken.add(name)
    source.cache_clear()
    afresh = [name for name in own if name not in taken]
    if not any(not name.startswith("head.") for name in taken):
        raise DoesNotFit(f"no weight of '{path}' fits the design; an edit changed all of it")
    more = f" and {len(afresh) - 6} more" if len(afresh) > 6 else ""
    told = f"; afresh: {', '.join(afresh[:6])}{more}" if afresh else ""
    return f"{len(own) - len(afresh)} of {len(own)} tensors from '{path}'{told}"
