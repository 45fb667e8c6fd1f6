"""Objectives: a model and a batch into a loss."""

from everyformer.objectives.base import Loss, Objective
from everyformer.objectives.budget import Budgeted
from everyformer.objectives.classes import Classification
from everyformer.objectives.clusters import ClusterMasks
from everyformer.objectives.compatible import BackwardCompatible
from everyformer.objectives.contrastive import Contrastive, EachPair, MatchingTexts
from everyformer.objectives.depth import ScaleInvariant
from everyformer.objectives.distillation import AlignedDistillation, Distillation, HardDistillation
from everyformer.objectives.experts import ExpertGroups
from everyformer.objectives.future import FutureTokens
from everyformer.objectives.heat import HeatBoxes
from everyformer.objectives.interactions import Interactions
from everyformer.objectives.pictures import ClassesAndWords, HiddenPixels, HiddenWords, Places
from everyformer.objectives.pixels import DeepPixelClasses, PixelClasses
from everyformer.objectives.pruning import RewardedPruning, SourcePruning, TokenPruning
from everyformer.objectives.ranking import Ranking
from everyformer.objectives.rebuilding import Rebuilding
from everyformer.objectives.regions import DescribedRegions, RegionBoxes
from everyformer.objectives.relations import HybridDistillation, hybrid_distillation
from everyformer.objectives.remembering import Remembered
from everyformer.objectives.rewards import PolicyGradient
from everyformer.objectives.series import Forecast, Likelihood
from everyformer.objectives.sets import BinaryMasks, Boxes, Masks
from everyformer.objectives.slots import RebuiltCells, SelfTaughtSlots
from everyformer.objectives.sounds import HiddenCodes
from everyformer.objectives.spans import MarginalSpans
from everyformer.objectives.targets import MaskedTarget
from everyformer.objectives.text import MaskedToken, NextToken, SequenceToSequence
from everyformer.objectives.traits import PixelsAndTraits
from everyformer.objectives.transcripts import CTC
from everyformer.objectives.views import ViewSynthesis

__all__ = [
    "AlignedDistillation", "BackwardCompatible", "BinaryMasks", "Boxes", "Budgeted", "CTC", "ClassesAndWords",
    "Classification", "ClusterMasks", "Contrastive", "DeepPixelClasses", "DescribedRegions", "Distillation",
    "EachPair", "ExpertGroups", "Forecast", "FutureTokens", "HardDistillation", "HeatBoxes", "HiddenCodes",
    "HiddenPixels", "HiddenWords", "HybridDistillation", "Interactions", "Likelihood", "Loss", "MarginalSpans",
    "MaskedTarget", "MaskedToken", "Masks", "MatchingTexts", "NextToken", "Objective", "PixelClasses",
    "PixelsAndTraits", "Places", "PolicyGradient", "Ranking", "Rebuilding", "RebuiltCells", "RegionBoxes",
    "Remembered", "RewardedPruning", "ScaleInvariant", "SelfTaughtSlots", "SequenceToSequence", "SourcePruning",
    "TokenPruning", "ViewSynthesis", "hybrid_distillation",
]  # fmt: skip
