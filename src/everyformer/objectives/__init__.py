"""Objectives: a model and a batch into a loss."""

from everyformer.objectives.base import Loss, Objective
from everyformer.objectives.classes import Classification
from everyformer.objectives.clusters import ClusterMasks
from everyformer.objectives.contrastive import Contrastive
from everyformer.objectives.depth import ScaleInvariant
from everyformer.objectives.distillation import Distillation, HardDistillation
from everyformer.objectives.pictures import ClassesAndWords, HiddenPixels, HiddenWords, Places
from everyformer.objectives.pixels import PixelClasses
from everyformer.objectives.pruning import RewardedPruning, TokenPruning
from everyformer.objectives.series import Forecast
from everyformer.objectives.sets import BinaryMasks, Boxes, Masks
from everyformer.objectives.text import MaskedToken, NextToken, SequenceToSequence

__all__ = [
    "BinaryMasks", "Boxes", "ClassesAndWords", "Classification", "ClusterMasks", "Contrastive", "Distillation", "Forecast", "HardDistillation",
    "HiddenPixels", "HiddenWords", "Loss", "MaskedToken", "Masks", "NextToken", "Objective", "PixelClasses", "Places",
    "RewardedPruning", "ScaleInvariant", "SequenceToSequence", "TokenPruning",
]  # fmt: skip
