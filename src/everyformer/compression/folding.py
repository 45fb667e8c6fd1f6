"""Rewrites that leave a model's function as it is: channels scaled and shifted where they come from, and back in the maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Norm
from everyformer.designs import design_of, parts_at
from everyformer.tokens import Tokens

NEAR = 1e-3
"""How near two sums of gradients are, of their size, to count as the same."""


@dataclass(frozen=True)
class Fold:
    """A norm, or the last rows of a linear map, whose channels only the linear maps `readers` read, each by itself."""

    source: nn.Module
    readers: tuple[str, ...]

    @property
    def normed(self) -> bool:
        """Whether the source is a norm."""
        return isinstance(self.source, Norm)

    def shifts(self, maps: Mapping[str, Any]) -> bool:
        """Whether source and readers can add a number to each channel."""
        ends = [self.source, *(maps[path] for path in self.readers)]
        return self.normed and all(getattr(each, "bias", None) is not None for each in ends)

    @torch.no_grad()
    def apply(
        self, maps: Mapping[str, Any], scale: Float[Tensor, " D"], shift: Float[Tensor, " D"] | None = None
    ) -> None:
        """Let the source give (x - shift) / scale, and the readers undo it (SmoothQuant, equation 3; OS+, equation 5)."""
        source: Any = self.source
        for path in self.readers:
            reader = maps[path]
            if shift is not None:
                reader.bias += reader.weight @ shift
            reader.weight.mul_(scale)
        if self.normed:
            offset = getattr(source, "offset", 0.0)
            source.weight.copy_((source.weight + offset) / scale - offset)
            if getattr(source, "bias", None) is not None:
                source.bias.copy_((source.bias if shift is None else source.bias - shift) / scale)
            return
        rows = slice(source.out_features - len(scale), None)
        source.weight[rows] /= scale[:, None]
        if source.bias is not None:
            source.bias[rows] /= scale


def folds(model: nn.Module, batch: Mapping[str, Tensor], maps: Mapping[str, nn.Module]) -> list[Fold]:
    """Where the inputs of `maps` can be scaled for nothing, found by what the model does with some data.

    A norm is read by linear maps alone if the gradient at its output is the sum of what they send back. A linear map
    feeds another channel by channel if both see the same product of value and gradient (Euler's theorem): values and
    the output map of attention, the ungated half and the last map of a gated layer, both maps around a ReLU.
    """
    traced = _Trace(model, maps)
    values, grads = traced.run(batch)
    found = []
    for path, norm in traced.norms.items():
        readers = [each for each in maps if values.get(f"{each} <") is values.get(path)]
        if not readers or path not in grads:
            continue
        sent: Any = sum(grads[each] @ maps[each].weight for each in readers)  # type: ignore[misc, operator]
        if _same(sent, grads[path]):
            found.append(Fold(norm, tuple(readers)))
    for source, reader in _pairs(model, maps):
        width = maps[reader].in_features
        if f"{reader} <" not in grads or source not in grads:
            continue
        before = (values[source] * grads[source]).flatten(0, -2)[:, -width:].sum(0)  # type: ignore[misc]
        after = (values[f"{reader} <"] * grads[f"{reader} <"]).flatten(0, -2).sum(0)
        if _same(before, after):
            found.append(Fold(maps[source], (reader,)))
    return found


def _pairs(model: nn.Module, maps: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The linear maps of one part of which one may feed the other."""
    for path, _ in design_of(model).walk():
        for _, _, part in parts_at(model, path):
            names = [f"{path}.{name}".lstrip(".") for name in part.plain_maps()]  # type: ignore[operator]
            inside = [name for name in names if name in maps]
            for source in inside:
                for reader in inside:
                    if source != reader and maps[source].out_features >= maps[reader].in_features:
                        yield source, reader


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).norm() <= NEAR * other.norm()) & (other.norm() > 0))


class _Trace:
    """The outputs of norms and the inputs and outputs of linear maps in one pass, with the gradients of a random sum."""

    def __init__(self, model: nn.Module, maps: Mapping[str, nn.Module]) -> None:
        self.model, self.maps = model, maps
        self.norms = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, Norm) and isinstance(getattr(module, "weight", None), Tensor) and not module.counts
        }

    @torch.enable_grad()
    def run(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The values, and the gradients at them, by path; the input of a map is at 'path <'. Met twice: left out."""
        values: dict[str, Tensor] = {}
        twice: set[str] = set()

        def keep(path: str, value: Tensor) -> Tensor:
            if path in values:
                twice.add(path)
            values[path] = value if value.requires_grad else value.requires_grad_()
            return values[path]

        handles = [
            module.register_forward_hook(lambda module, args, output, path=path: keep(path, output))
            for path, module in {**self.norms, **self.maps}.items()
        ] + [
            module.register_forward_pre_hook(lambda module, args, path=path: (keep(f"{path} <", args[0]),))
            for path, module in self.maps.items()
        ]
        try:
            answer = self.model(**{name: value[:2] for name, value in batch.items()})
        finally:
            for handle in handles:
                handle.remove()
        answer = answer.values if isinstance(answer, Tokens) else answer
        generator = torch.Generator().manual_seed(0)
        weights = torch.randn(answer.shape, generator=generator).to(answer)
        kept = {path: value for path, value in values.items() if path not in twice}
        grads = torch.autograd.grad((answer * weights).sum(), [*kept.values()], allow_unused=True)
        return kept, {path: grad for path, grad in zip(kept, grads) if grad is not None}
