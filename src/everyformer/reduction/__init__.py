"""Fewer tokens: pruning, merging, clustering, and the way back."""

from everyformer.reduction.applying import expedite, keep_for, reduced
from everyformer.reduction.clustering import Superpixels
from everyformer.reduction.grouping import Grouping
from everyformer.reduction.learned import DynamicViT, TokenLearner
from everyformer.reduction.merging import PiToMe, PiToMeText, TokenTransforming, ToMe
from everyformer.reduction.prompts import FastV
from everyformer.reduction.pruning import ClassAttention, EViT, Patchout, RandomDrop, Redundant, ZeroTPrune
from everyformer.reduction.reactivation import PYRA
from everyformer.reduction.restoring import Restore
from everyformer.reduction.thresholds import Interpreter, Threshold

__all__ = [
    "ClassAttention", "DynamicViT", "EViT", "FastV", "Grouping", "Interpreter", "PYRA", "Patchout", "PiToMe",
    "PiToMeText", "RandomDrop", "Redundant", "Restore", "Superpixels", "Threshold", "ToMe", "TokenLearner",
    "TokenTransforming", "ZeroTPrune", "expedite", "keep_for", "reduced",
]  # fmt: skip
