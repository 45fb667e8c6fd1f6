"""Objectives: a model and a batch into a loss."""

from everyformer.objectives.base import Loss, Objective
from everyformer.objectives.classes import Classification
from everyformer.objectives.distillation import Distillation, HardDistillation
from everyformer.objectives.series import Forecast
from everyformer.objectives.text import MaskedToken, NextToken, SequenceToSequence

__all__ = [
    "Classification", "Distillation", "Forecast", "HardDistillation", "Loss", "MaskedToken", "NextToken", "Objective",
    "SequenceToSequence",
]  # fmt: skip
