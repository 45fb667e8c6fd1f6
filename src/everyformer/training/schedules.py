"""How the learning rate goes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable

from everyformer.errors import UnknownName
from everyformer.recipe import Training

Shape = Callable[[float, float], float]


def cosine(done: float, warm: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter, 2017, without restarts)."""
    share = (done - warm) / max(1.0 - warm, 1e-12)
    return 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def inverse_sqrt(done: float, warm: float) -> float:
    """sqrt(warm / done) (Vaswani et al., 2017, section 5.3, with 1 at the end of the warm-up)."""
    return math.sqrt(warm / done) if done > warm > 0 else 1.0


def constant(done: float, warm: float) -> float:
    """1 to the end."""
    return 1.0


SCHEDULES: dict[str, Shape] = {"cosine": cosine, "inverse-sqrt": inverse_sqrt, "constant": constant}


def find_schedule(name: str) -> Shape:
    """The schedule of that name."""
    if name not in SCHEDULES:
        raise UnknownName("schedule", name, SCHEDULES)
    return SCHEDULES[name]


class Schedule:
    """The learning rate of each step; a run of so many seconds goes by the share of them that has passed."""

    def __init__(self, training: Training, steps: int | None) -> None:
        self.shape = find_schedule(training.schedule)
        self.lr, self.floor, self.warmup = training.lr, training.min_lr, training.warmup
        self.steps = steps

    def __call__(self, step: int, share: float) -> float:
        """The learning rate of step `step` (from 0), which begins when `share` of the run is over."""
        # A step number is exact where a share is rounded: the warm-up ends at 1, not just before. Seconds may be over sooner.
        reached = max(share, 0.0 if self.steps is None else (step + 1) / self.steps)
        warm, begun = self.warmup, reached / self.warmup if self.warmup else 1.0
        if self.steps is not None and self.warmup >= 1:
            warm, begun = self.warmup / self.steps, (step + 1) / self.warmup
        if begun < 1:
            return self.lr * begun
        if self.shape is inverse_sqrt and warm == 0:
            return max(self.floor, self.lr / math.sqrt(step + 1))
        return self.floor + (self.lr - self.floor) * self.shape(max(share, warm), warm)
