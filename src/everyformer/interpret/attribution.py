"""How much each part of an input counts for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Embedding
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interpret.taps import intervene, record

AT_ONCE = 32
"""Changed copies of a sample that go through the model together."""
T = TypeVar("T")
Score = Callable[[Tensor], Float[Tensor, " B"]]
"""The model's answer into the number, one for each sample, that is explained."""
Function = Callable[[list[Tensor]], Float[Tensor, " B"]]
"""What goes in, each (B, ...), into the number that is explained."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of the score: how fast it changes with each number that goes in (Simonyan et al., 2014)."""

    def __call__(self, function: Function, inputs: list[Tensor]) -> list[Tensor]:
        """An attribution of each number of one sample."""
        leaves = [each.detach().requires_grad_() for each in inputs]
        with torch.enable_grad():
            return list(torch.autograd.grad(function(leaves).sum(), leaves, materialize_grads=True))


@dataclass(frozen=True)
class InputXGradient:
    """The gradient times what went in (Shrikumar et al., 2016)."""

    def __call__(self, function: Function, inputs: list[Tensor]) -> list[Tensor]:
        """An attribution of each number of one sample."""
        return [x * gradient for x, gradient in zip(inputs, Gradient()(function, inputs), strict=True)]


@dataclass(frozen=True)
class IntegratedGradients:
    """The mean gradient on the way from zero to the input, times the input (Sundararajan et al., 2017, equation 1).

    Its sum is the score less the score of zero. The integral is taken at the points of Gauss and Legendre, `steps` of them,
    doubled until that holds to within the share `within`.
    """

    steps: int = 50
    within: float = 0.01

    def __call__(self, function: Function, inputs: list[Tensor]) -> list[Tensor]:
        """An attribution of each number of one sample."""
        with torch.no_grad():
            change = function(inputs) - function([torch.zeros_like(x) for x in inputs])
        for steps in (self.steps * 2**i for i in range(4)):
            found = self._with(steps, function, inputs)
            gap = (sum(x.double().sum() for x in found) - change).abs()
            if gap <= self.within * change.abs() + 1e-6:
                return found
        raise BadInput(
            f"integrated gradients are off by {float(gap):.3g} of {float(change):.3g} after {steps} steps; the score jumps on "
            "the way from zero; explain another score or allow more with within="
        )

    @staticmethod
    def _with(steps: int, function: Function, inputs: list[Tensor]) -> list[Tensor]:
        nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(steps))
        total = [torch.zeros_like(x) for x in inputs]
        for some, shares in zip(((nodes + 1) / 2).split(AT_ONCE), (weights / 2).split(AT_ONCE), strict=True):
            path = [x * _along(some, x) for x in inputs]
            gradients = Gradient()(function, path)
            total = [t + (g * _along(shares, g)).sum(0) for t, g in zip(total, gradients, strict=True)]
        return [x * t for x, t in zip(inputs, total, strict=True)]


def _along(numbers: Tensor, x: Tensor) -> Tensor:
    """One number for each sample of a batch."""
    return numbers.to(x).view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class Occlusion:
    """What the score loses when a token is set to zero (Zeiler and Fergus, 2014), in equal shares over its numbers.

    Where pictures go in, what is set to zero is a square of `patch` pixels in all channels.
    """

    patch: int = 4

    @torch.no_grad()
    def __call__(self, function: Function, inputs: list[Tensor]) -> list[Tensor]:
        """An attribution of each number of one sample."""
        whole = function(inputs)
        found = []
        for which, x in enumerate(inputs):
            effect = torch.zeros_like(x)
            for places in batched(self._places(x)):
                rows = [each.repeat(len(places), *[1] * (each.dim() - 1)) for each in inputs]
                for row, place in enumerate(places):
                    rows[which][row][place] = 0
                for place, lost in zip(places, whole - function(rows), strict=True):
                    effect[0][place] = lost / effect[0][place].numel()
            found.append(effect)
        return found

    def _places(self, x: Tensor) -> Iterator[tuple[Any, ...]]:
        if x.dim() == 4:
            for row in range(0, x.shape[2], self.patch):
                for column in range(0, x.shape[3], self.patch):
                    yield ..., slice(row, row + self.patch), slice(column, column + self.patch)
        else:
            yield from ((token,) for token in range(x.shape[1]))


def batched(places: Iterable[T]) -> Iterator[list[T]]:
    """As many as go through a model together."""
    waiting = iter(places)
    while some := list(islice(waiting, AT_ONCE)):
        yield some


def repeated(batch: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """A batch of one sample as one of that many."""
    return {name: value.expand(rows, *value.shape[1:]) for name, value in batch.items()}


Attributor = Callable[[Function, list[Tensor]], list[Tensor]]
INTEGRATED = IntegratedGradients()


def attribute(
    model: nn.Module, batch: Mapping[str, Tensor], score: Score, method: Attributor = INTEGRATED
) -> list[Tensor]:
    """How much what goes into one sample counts for `score` of the answer: one tensor for each thing that goes in.

    Where ids go in, it is the vectors (1, N, D) that stand for them (of the source, then of the target), where a series is
    normalised first the normalised one, else the input itself.
    """
    if len(batch["inputs"]) != 1:
        raise BadInput(f"one sample is explained at a time; given {len(batch['inputs'])}")
    with _still(model):
        function, inputs = entrance(model, batch, score)
        return method(function, inputs)


def entrance(model: nn.Module, batch: Mapping[str, Tensor], score: Score) -> tuple[Function, list[Tensor]]:
    """The score as a function of what goes in, and what does."""
    if getattr(model, "reversible", None) is not None:
        places = ["reversible"]
    elif batch["inputs"].is_floating_point():
        return lambda x: score(model(**{**repeated(batch, len(x[0])), "inputs": x[0]})), [batch["inputs"]]
    else:
        places = [f"{path}.table" for path, module in model.named_modules() if isinstance(module, Embedding)]
    with torch.no_grad(), record(model, *places) as seen:
        model(**batch)
    passed = {path: seen.calls(path) for path in seen}

    def function(values: list[Tensor]) -> Tensor:
        waiting = iter(values)
        changes = {path: _in_turn([next(waiting) for _ in calls]) for path, calls in passed.items()}
        with intervene(model, changes):
            return score(model(**repeated(batch, len(values[0]))))

    return function, [value.detach() for calls in passed.values() for value in calls]


def first_embedding(model: nn.Module) -> str:
    """The path of the embedding that the inputs go into."""
    found = next((path for path, module in model.named_modules() if isinstance(module, Embedding)), None)
    if found is None:
        raise DoesNotFit(f"{type(model).__name__} has no embedding to look at; give a model made of parts")
    return found


def _in_turn(values: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """The values, one at each call: a table that source and target share is passed twice."""
    waiting = iter(values)
    return lambda old: next(waiting)


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """No dropout, and no gradients kept for the weights."""
    training = [module for module in model.modules() if module.training]
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learnt:
            parameter.requires_grad_(True)


def token_sums(values: Float[Tensor, "1 N D"]) -> Float[Tensor, " N"]:
    """One number a token: the sum over its channels, which keeps completeness."""
    return values[0].sum(-1)


def token_norms(values: Float[Tensor, "1 N D"]) -> Float[Tensor, " N"]:
    """One number a token: the length of its vector, as for gradients."""
    return values[0].norm(dim=-1)
