"""Objectives: a model and a batch into a loss."""

from everyformer.objectives.base import Loss, Objective
from everyformer.objectives.classes import Classification
from everyformer.objectives.compatible import BackwardCompatible
from everyformer.objectives.contrastive import Contrastive
from everyformer.objectives.depth import ScaleInvariant
from everyformer.objectives.distillation import Distillation, HardDistillation
from everyformer.objectives.pictures import ClassesAndWords, HiddenPixels, HiddenWords, Places
from everyformer.objectives.pixels import PixelClasses
from everyformer.objectives.pruning import TokenPruning
from everyformer.objectives.relations import HybridDistillation, hybrid_distillation
from everyformer.objectives.series import Forecast
from everyformer.objectives.sets import Boxes, Masks
from everyformer.objectives.text import MaskedToken, NextToken, SequenceToSequence

__all__ = [
    "BackwardCompatible", "Boxes", "ClassesAndWords", "Classification", "Contrastive", "Distillation", "Forecast", "HardDistillation",
    "HiddenPixels", "HiddenWords", "HybridDistillation", "Loss", "MaskedToken", "Masks", "NextToken", "Objective", "PixelClasses", "Places",
    "ScaleInvariant", "SequenceToSequence", "TokenPruning", "hybrid_distillation",
]  # fmt: skip
