"""Training: a recipe into a run."""

from everyformer.training.loop import train
from everyformer.training.run import Run

__all__ = ["Run", "train"]
