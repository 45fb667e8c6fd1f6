"""What a trained model does on some data: each linear map with its inputs, in the order of the pass, all batches in step."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.designs import design_of, matches, parts_at
from everyformer.edits import swap
from everyformer.errors import BadInput, UnknownName
from everyformer.objectives.base import LABELS
from everyformer.specs import Spec

BLOCKS = "**.blocks.**"
"""The linear maps inside blocks: neither those that read raw input nor those of the head."""

Calibration = Iterable[Mapping[str, Tensor] | Tensor]
"""Batches as the model takes them; labels in them are left out where a method needs none. A tensor alone is `inputs`."""


def linears(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The plain linear maps of a model whose paths match, in the order of its parts; tied ones cannot be changed."""
    known = design_of(model).linears()
    at = {path: parts_at(model, path) for path in known if matches(path, pattern)}
    if not at:
        other = [path for path in design_of(model).forms() if matches(path, pattern)]
        if other:
            raise BadInput(
                f"the maps at '{pattern}' have another form already ('{other[0]}'); ef.remove puts plain ones back"
            )
        raise UnknownName("plain linear map", pattern, known)
    return {path: found[0][2] for path, found in at.items() if len(found) == 1}


def exchanged(model: nn.Module, pattern: str, form: Spec[Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A copy of a model, for use, with this form of linear map wherever the pattern finds a plain one, and those by path."""
    paths = [*linears(model, pattern)]
    made = swap(copy.deepcopy(model).eval(), paths, form)
    return made, {path: made.get_submodule(path) for path in paths}


def batches_of(calibration: Calibration, model: nn.Module) -> list[dict[str, Tensor]]:
    """The batches where the model stands, without labels and without padding: rows of one length together."""
    return [{name: each[name] for name in each if name != LABELS} for each in _batches(calibration, model)]


def labelled(calibration: Calibration, model: nn.Module) -> list[dict[str, Tensor]]:
    """The same with their labels, which they must have."""
    batches = _batches(calibration, model)
    if not all(LABELS in each for each in batches):
        raise BadInput(f"this method looks at the loss, and the batches have no '{LABELS}'; give them as for training")
    return batches


def _batches(calibration: Calibration, model: nn.Module) -> list[dict[str, Tensor]]:
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    if isinstance(calibration, (str, bytes, Mapping, Tensor)) or not isinstance(calibration, Iterable):
        raise BadInput(
            f"calibration takes a list of batches as the model takes them; given a {type(calibration).__name__}"
        )
    batches: list[dict[str, Tensor]] = []
    for each in calibration:
        if isinstance(each, Tensor):
            each = {"inputs": each}
        if not isinstance(each, Mapping) or "inputs" not in each:
            given = f"the keys {sorted(each)}" if isinstance(each, Mapping) else f"a {type(each).__name__}"
            raise BadInput(f"a calibration batch is a tensor or a dictionary with 'inputs'; given {given}")
        fields = {name: value.to(device) for name, value in each.items()}
        if len(fields["inputs"]):
            batches += unpadded(fields)
    if not batches:
        raise BadInput("calibration needs data, and there is not one sample in what was given")
    return batches


def unpadded(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A batch as smaller ones without padding, of the rows that are equally long."""
    masks = {name: value for name, value in batch.items() if name in ("mask", "target_mask")}
    if not masks:
        yield dict(batch)
        return
    lengths = torch.stack([mask.sum(1) for mask in masks.values()], 1)
    for length in lengths.unique(dim=0):
        rows = (lengths == length).all(1)
        taken = {}
        for name, value in batch.items():
            mask = masks.get("target_mask" if name.startswith("target") else "mask")
            if mask is None or value.shape[:2] != mask.shape:
                taken[name] = value[rows]
            elif name not in masks:
                taken[name] = value[rows][mask[rows]].unflatten(0, (int(rows.sum()), -1))
        yield taken


def stream(
    model: nn.Module, batches: list[dict[str, Tensor]], maps: Mapping[str, nn.Module]
) -> Iterator[tuple[str, Float[Tensor, "T D"]]]:
    """Each of `maps` (by its path) with all its inputs, before it is used: what is done to it then acts on all that follows.

    Every batch goes through the model once, in a thread of its own that waits before each map until all that come
    there have come, so only the values on the way at one place are held. A map that is met again is passed. One thread
    runs at a time.
    """
    order = {path: i for i, path in enumerate(maps)}
    done: set[str] = set()

    def wait(path: str, inputs: Tensor) -> None:
        walker = threading.current_thread()
        if isinstance(walker, _Walk) and path not in done:
            walker.wait(path, inputs)

    walks = [_Walk(model, each) for each in batches]
    with _hooked(maps, wait):
        try:
            for walk in walks:
                walk.go()
            while places := {walk.at for walk in walks if walk.at is not None}:
                place = min(places, key=order.__getitem__)
                here = [walk for walk in walks if walk.at == place]
                yield place, torch.cat([walk.inputs.flatten(0, -2) for walk in here])
                done.add(place)
                for walk in here:
                    walk.go()
        finally:
            for walk in walks:
                walk.leave()


@dataclass
class Seen:
    """What went into a linear map: of each channel the least, the largest and the mean size, and some of the tokens."""

    low: Float[Tensor, " D"]
    high: Float[Tensor, " D"]
    size: Float[Tensor, " D"]
    some: Float[Tensor, "T D"]

    @property
    def reach(self) -> Float[Tensor, " D"]:
        """The largest size of each channel."""
        return torch.maximum(-self.low, self.high)

    def migrate(self, scale: Float[Tensor, " D"], shift: Float[Tensor, " D"] | float = 0.0) -> None:
        """Go along with a fold."""
        self.size = self.size / scale
        self.low, self.high, self.some = ((each - shift) / scale for each in (self.low, self.high, self.some))


@torch.no_grad()
def observe(
    model: nn.Module, batches: list[dict[str, Tensor]], maps: Mapping[str, nn.Module], *, tokens: int = 512
) -> dict[str, Seen]:
    """What goes into each of `maps`, with about as many `tokens`, evenly spaced; a map that nothing reaches is left out."""
    found: dict[str, list[tuple[Tensor, Tensor, Tensor, int]]] = {path: [] for path in maps}
    samples: dict[str, list[Tensor]] = {path: [] for path in maps}

    def look(path: str, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2).float()
        found[path].append((rows.amin(0), rows.amax(0), rows.abs().sum(0), len(rows)))
        samples[path].append(rows[:: max(1, len(rows) * len(batches) // tokens)].clone())

    with _hooked(maps, look):
        for batch in batches:
            model(**batch)
    seen = {}
    for path, each in found.items():
        if each:
            low, high, size, count = zip(*each)
            mean = torch.stack(size).sum(0) / sum(count)
            seen[path] = Seen(torch.stack(low).amin(0), torch.stack(high).amax(0), mean, torch.cat(samples[path]))
    return seen


class _hooked:
    """`call(path, inputs)` before each of these modules runs, for a while."""

    def __init__(self, maps: Mapping[str, nn.Module], call: Callable[[str, Tensor], Any]) -> None:
        self.maps, self.call = maps, call

    def __enter__(self) -> None:
        self.handles = [
            module.register_forward_pre_hook(lambda module, args, path=path: self.call(path, args[0]))
            for path, module in self.maps.items()
        ]

    def __exit__(self, *raised: Any) -> None:
        for handle in self.handles:
            handle.remove()


class _Left(Exception):
    """Raised in a walk that nobody waits for any more."""


class _Walk(threading.Thread):
    """One batch on its way through a model: it runs only between `go` and the next place where it waits."""

    def __init__(self, model: nn.Module, batch: dict[str, Tensor]) -> None:
        super().__init__(daemon=True)
        self.model, self.batch = model, batch
        self.at: str | None = ""
        self.inputs: Tensor = torch.empty(0)
        self.left = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.error: BaseException | None = None

    def run(self) -> None:
        """The pass."""
        try:
            with torch.no_grad():
                self.model(**self.batch)
        except _Left:
            pass
        except BaseException as error:
            self.error = error
        self.at = None
        self._stopped.release()

    def wait(self, path: str, inputs: Tensor) -> None:
        """Stop before a map; called in this thread."""
        self.at, self.inputs = path, inputs
        self._stopped.release()
        self._go.acquire()
        if self.left:
            raise _Left

    def go(self) -> None:
        """Run to the next place; called from outside."""
        if self.ident is None:
            self.start()
        else:
            self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def leave(self) -> None:
        """Give up; called from outside."""
        if self.ident is not None and self.is_alive() and self.at is not None:
            self.left = True
            self._go.release()
            self._stopped.acquire()
