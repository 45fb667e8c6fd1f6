"""The batches of a run, made ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from everyformer.training.order import seed_of

if TYPE_CHECKING:
    from everyformer.data import Task
    from everyformer.training.order import Order

AHEAD = 2


class Part(NamedTuple):
    """A micro-batch; one of weight 0 only keeps step with other devices."""

    batch: dict[str, Tensor]
    weight: float


class Step(NamedTuple):
    """What one process does in a step; `samples` are those of all processes."""

    samples: list[int]
    parts: list[Part]


class Steps(Dataset[Step]):
    """The steps of a run by number."""

    def __init__(self, task: Task, order: Order, *, seed: int, accumulate: int, rank: int = 0, world: int = 1) -> None:
        self.task, self.order, self.seed = task, order, seed
        self.accumulate, self.rank, self.world = accumulate, rank, world

    def __getitem__(self, step: int) -> Step:
        """The samples of a step, cut into micro-batches; all of them draw their augmentation from one seed."""
        samples = self.order(step)
        cut = np.array_split(np.asarray(samples), self.accumulate * self.world)
        seed = seed_of(self.seed, step)
        parts = []
        for mine in cut[self.rank * self.accumulate : (self.rank + 1) * self.accumulate]:
            chosen = mine.tolist() or samples[:1]
            parts.append(Part(self.task.batch("train", chosen, train=True, seed=seed), float(len(mine) > 0)))
        return Step(samples, parts)


class Feed:
    """Steps one after the other from `start`: from a thread, or from so many worker processes."""

    def __init__(self, steps: Steps, start: int, workers: int) -> None:
        self.steps, self.next, self.workers = steps, start, workers

    def __enter__(self) -> Iterator[Step]:
        if self.workers:
            numbers = _From(self.next)
            loader = DataLoader(self.steps, batch_size=None, sampler=numbers, num_workers=self.workers)
            return iter(loader)
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.made: deque[Future[Step]] = deque()
        return self._made()

    def __exit__(self, *_: object) -> None:
        if not self.workers:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def _made(self) -> Iterator[Step]:
        while True:
            while len(self.made) < AHEAD:
                self.made.append(self.pool.submit(self.steps.__getitem__, self.next))
                self.next += 1
            yield self.made.popleft().result()


class _From:
    """Whole numbers without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1
