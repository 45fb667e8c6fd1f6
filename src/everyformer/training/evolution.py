"""Regularised evolution: a search that needs nothing but a score."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from everyformer.errors import BadInput

T = TypeVar("T")


@dataclass(frozen=True)
class Tried(Generic[T]):
    """A candidate and its fitness."""

    candidate: T
    fitness: float


def evolve(
    start: T,
    mutate: Callable[[T, random.Random], T],
    fitness: Callable[[T], float],
    *,
    trials: int = 64,
    population: int = 16,
    tournament: int = 4,
    seed: int = 0,
) -> list[Tried[T]]:
    """All that was tried, in order; the larger the fitness the better (Real et al., 2019, algorithm 1).

    A population begins as mutants of `start`. Then the best of `tournament` drawn from it has a child, one mutation away,
    and the oldest dies.
    """
    if not 1 <= tournament <= population <= trials:
        raise BadInput(
            f"a tournament is drawn from a population, and that is among the trials; given tournament={tournament}, "
            f"population={population}, trials={trials}"
        )
    chance = random.Random(seed)
    tried: list[Tried[T]] = []
    living: deque[Tried[T]] = deque(maxlen=population)
    for trial in range(trials):
        drawn = chance.sample(list(living), tournament) if trial >= population else []
        parent = max(drawn, key=lambda each: each.fitness).candidate if drawn else start
        child = start if trial == 0 else mutate(parent, chance)
        tried.append(Tried(child, fitness(child)))
        living.append(tried[-1])
    return tried
