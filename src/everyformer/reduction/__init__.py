"""Fewer tokens: pruning, merging, clustering, and the way back."""

from everyformer.reduction.merging import PiToMe, PiToMeText, TokenTransforming, ToMe
from everyformer.reduction.pruning import ClassAttention, EViT, RandomDrop, ZeroTPrune
from everyformer.reduction.restoring import Restore

__all__ = [
    "ClassAttention", "EViT", "PiToMe", "PiToMeText", "RandomDrop", "Restore", "ToMe", "TokenTransforming", "ZeroTPrune",
]  # fmt: skip
