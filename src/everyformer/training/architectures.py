"""Searching for designs: evolution under a limit of cost, and one trained network that all of them are parts of.

    space = Space(lambda chosen: ef.design("vit-resnas", **grouped(chosen)), {"widths.0": (32, 48), ...})
    found = evolve(space, score, limit=1e8, generations=5)

(Liao et al., Searching for Efficient Multi-Stage Vision Transformers, 2021, section 3.2; Wong et al., TurboViT, 2023.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from everyformer.costs import flops, on_meta
from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.registry import Part
from everyformer.units import Units

Chosen = Mapping[str, Any]
"""A value for each choice of a space."""
TRIES = 1000
"""Draws after which a search says that it finds nothing new under the limit."""


@dataclass(frozen=True)
class Space:
    """What may be chosen, and the design that comes of it; the last value of each choice is its largest."""

    make: Callable[[Chosen], Design]
    choices: Mapping[str, Sequence[Any]]

    def largest(self) -> dict[str, Any]:
        """The largest of everything, of which all else is a part."""
        return {name: values[-1] for name, values in self.choices.items()}

    def draw(self, generator: random.Random) -> dict[str, Any]:
        """Each choice at random."""
        return {name: generator.choice(values) for name, values in self.choices.items()}


@dataclass(frozen=True)
class Candidate:
    """What was chosen, what it costs (FLOPs of one sample) and how good it was found to be."""

    chosen: Chosen
    cost: float
    score: float


def grouped(chosen: Chosen) -> dict[str, Any]:
    """Options of a design from choices such as 'heads.0.1', the second value of the first tuple of the option `heads`."""
    found: dict[str, Any] = {}
    for name, value in chosen.items():
        option, *steps = name.split(".")
        if not steps:
            found[option] = value
            continue
        here = found.setdefault(option, {})
        for step in steps[:-1]:
            here = here.setdefault(int(step), {})
        here[int(steps[-1])] = value
    return {option: _listed(value) for option, value in found.items()}


def _listed(value: Any) -> Any:
    return tuple(_listed(value[i]) for i in sorted(value)) if isinstance(value, dict) else value


def cost_of(design: Design) -> float:
    """FLOPs of one sample."""
    return flops(on_meta(design))[""]


def evolve(
    space: Space,
    score: Callable[[Chosen], float],
    *,
    limit: float,
    cost: Callable[[Design], float] = cost_of,
    first: int = 32,
    generations: int = 4,
    parents: int = 8,
    children: int = 8,
    mutation: float = 0.3,
    seed: int = 0,
) -> list[Candidate]:
    """Candidates that cost at most `limit`, each scored once, the best first.

    `first` are drawn at random; in each generation as many `children` come of changing each choice of one of the best
    `parents` with probability `mutation`, and of taking each from either of two of them.
    """
    generator = random.Random(seed)
    found: dict[tuple[Any, ...], Candidate] = {}
    prices: dict[tuple[Any, ...], float] = {}

    def take(count: int, propose: Callable[[], dict[str, Any]]) -> None:
        for _ in range(count):
            for _ in range(TRIES):
                chosen = propose()
                key = tuple(chosen.values())
                if key not in prices:
                    prices[key] = cost(space.make(chosen))
                if key not in found and prices[key] <= limit:
                    found[key] = Candidate(chosen, prices[key], score(chosen))
                    break
            else:
                return

    def best() -> list[Candidate]:
        return sorted(found.values(), key=lambda each: -each.score)

    def mutated() -> dict[str, Any]:
        parent, fresh = generator.choice(best()[:parents]).chosen, space.draw(generator)
        return {name: fresh[name] if generator.random() < mutation else value for name, value in parent.items()}

    def crossed() -> dict[str, Any]:
        one, other = (generator.choice(best()[:parents]).chosen for _ in range(2))
        return {name: generator.choice((one[name], other[name])) for name in one}

    take(first, lambda: space.draw(generator))
    if not found:
        raise BadInput(f"nothing of {TRIES} draws costs at most {limit:g}; give a higher limit or smaller choices")
    for _ in range(generations):
        take(children, mutated)
        take(children, crossed)
    return best()


class SuperNetwork(nn.Module):
    """The largest network of a space; each smaller one computes with the first heads, hidden units and channels of it.

    `forward(inputs, chosen)` is the smaller one's answer, and its gradients are the large one's.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        self.network = space.make(space.largest()).build(seed=seed)
        self._parts: dict[tuple[Any, ...], tuple[nn.Module, dict[str, Cut]]] = {}

    def part(self, chosen: Chosen) -> tuple[nn.Module, dict[str, Tensor]]:
        """The smaller network, without weights of its own, and its weights as parts of the large one's."""
        key = tuple(chosen.values())
        if key not in self._parts:
            with torch.device("meta"):
                small = self.space.make(chosen).build(seed=0)
            self._parts[key] = small, dict(cuts(small, self.network))
        small, made = self._parts[key]
        own = self.network.state_dict(keep_vars=True)
        return small.train(self.training), {name: cut(own[name]) for name, cut in made.items()}

    def forward(self, inputs: Tensor, chosen: Chosen) -> Any:
        """The answer of the network that was chosen."""
        small, weights = self.part(chosen)
        return functional_call(small, weights, (inputs,))

    def several(self, inputs: Tensor, many: Sequence[Chosen]) -> Tensor:
        """The batch in as many groups, each through a network of its own: multi-architectural sampling (section 3.2)."""
        return torch.cat([self(group, each) for group, each in zip(inputs.tensor_split(len(many)), many, strict=True)])

    def extract(self, chosen: Chosen) -> nn.Module:
        """The smaller network on its own, with a copy of its weights."""
        _, weights = self.part(chosen)
        alone = self.space.make(chosen).build(seed=0)
        alone.load_state_dict({name: each.detach().clone() for name, each in weights.items()})
        return alone.eval()


Cut = Callable[[Tensor], Tensor]
"""A part of a tensor."""


def cuts(small: nn.Module, large: nn.Module) -> Iterator[tuple[str, Cut]]:
    """How each tensor of a smaller network is cut out of the larger one's: the first units of each part, else the first
    of every axis.
    """
    places = {}
    for path, part in large.named_modules():
        units = part.units() if isinstance(part, Part) else None
        for name, place in units.places.items() if units is not None else ():
            places[f"{path}.{name}"] = place, units
    fewer: dict[str, Units] = {
        path: units
        for path, part in small.named_modules()
        if isinstance(part, Part) and (units := part.units()) is not None
    }
    given = large.state_dict()
    for name, tensor in small.state_dict().items():
        if name not in given or given[name].dim() != tensor.dim():
            raise BadInput(f"'{name}' of the smaller network is no part of the larger one")
        axis, index = 0, None
        if name in places:
            (axis, every), _ = places[name]
            path = next(each for each in sorted(fewer, key=len, reverse=True) if name.startswith(f"{each}."))
            index = _first(every, fewer[path].count, fewer[path].places[name.removeprefix(f"{path}.")][1])
        yield name, _cut(tuple(tensor.shape), axis, index)


def _first(every: Tensor, count: int, to: Tensor) -> Tensor:
    """The places of the first units, in the order in which the smaller tensor has them."""
    index = torch.empty(to.numel(), dtype=torch.long)
    index[to.flatten()] = every[:count].flatten()
    return index


def _cut(shape: tuple[int, ...], axis: int, index: Tensor | None) -> Cut:
    def cut(tensor: Tensor) -> Tensor:
        if index is not None:
            tensor = tensor.index_select(axis, index.to(tensor.device))
        return tensor[tuple(slice(size) for size in shape)] if tensor.shape != shape else tensor

    return cut
