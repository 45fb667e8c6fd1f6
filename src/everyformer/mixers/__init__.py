"""Parts that turn Tokens into an update of each token from the others."""

from everyformer.mixers.attention import Attention, CrossAttention
from everyformer.mixers.bernoulli import BernoulliAttention, SampledBernoulliAttention
from everyformer.mixers.bigbird import BigBirdAttention
from everyformer.mixers.bottleneck import InvertedBottleneck
from everyformer.mixers.codes import HashFeatures, SharedLinearAttention, fit_codes
from everyformer.mixers.combiner import CombinerAttention
from everyformer.mixers.comparison import CausalComparison
from everyformer.mixers.convolutions import AddingConvMLP, Chain, ConvMLP, Depthwise, Pooling
from everyformer.mixers.correlation import Correlation, CrossCorrelation, Difference
from everyformer.mixers.cosine import CosineAttention
from everyformer.mixers.covariance import CrossCovariance, LocalInteraction
from everyformer.mixers.deformable import DeformableAttention
from everyformer.mixers.delta import DeltaNet, GatedDeltaNet
from everyformer.mixers.dictionary import SpectralDictionary
from everyformer.mixers.differential import DifferentialAttention
from everyformer.mixers.directions import (
    Directions,
    FastfoodDirections,
    GeneratedDirections,
    IndependentDirections,
    MixtureDirections,
    OrthogonalDirections,
)
from everyformer.mixers.enhanced import AxialEnhancedAttention, EnhancedAttention
from everyformer.mixers.expansion import StaticExpansion
from everyformer.mixers.factored import FactorAttention
from everyformer.mixers.factors import Hamburger
from everyformer.mixers.features import (
    CosineFeatures,
    EluFeatures,
    FeatureMap,
    FourierFeatures,
    PositiveFeatures,
    ReluFeatures,
)
from everyformer.mixers.fixed_point import FixedPointAttention
from everyformer.mixers.fourier import FourierMixer
from everyformer.mixers.fronted import FrontedAttention
from everyformer.mixers.fused import FusedAttention
from everyformer.mixers.gated_attention import GatedAttention
from everyformer.mixers.gated_convolution import GatedConvolution
from everyformer.mixers.gated_linear import GatedLinearAttention
from everyformer.mixers.hashed import ChunkedLSHAttention, LSHAttention
from everyformer.mixers.hyena import Hyena
from everyformer.mixers.identity import Identity
from everyformer.mixers.inception import Inception
from everyformer.mixers.landmarks import LandmarkAttention
from everyformer.mixers.large_kernel import LargeKernel
from everyformer.mixers.latent import LatentAttention
from everyformer.mixers.lean import lean_attention
from everyformer.mixers.legendre import LegendreMemory
from everyformer.mixers.linear import LinearAttention
from everyformer.mixers.low_rank import Linformer
from everyformer.mixers.marked import GlobalLocal, LabelledGlobalLocal, LongformerAttention
from everyformer.mixers.memorizing import MemorizingAttention
from everyformer.mixers.mixture_keys import MixtureKeys
from everyformer.mixers.multiresolution import MultiResolution
from everyformer.mixers.nystrom import NystromAttention
from everyformer.mixers.paired import PairedAttention
from everyformer.mixers.partial import CrossedAttention, CrossedCrossAttention, PartialAttention, PartialCrossAttention
from everyformer.mixers.placed import PlacedAttention, PlacedCrossAttention
from everyformer.mixers.planes import After, PlaneStateSpace
from everyformer.mixers.pooling_fusion import PoNet
from everyformer.mixers.prob_sparse import ProbSparse
from everyformer.mixers.projected import ProjectedAttention
from everyformer.mixers.real_gated import RealGatedRecurrence
from everyformer.mixers.receptance import ChannelMix, TimeMix
from everyformer.mixers.reduced import ConvAttention, EmbeddingFree, ReducedAttention
from everyformer.mixers.retention import Retention
from everyformer.mixers.retrieved import RetrievedAttention
from everyformer.mixers.ring import RingAttention, ring_attention, sequence_over
from everyformer.mixers.routed import RoutedGlobal
from everyformer.mixers.search import ExactSearch, FaissSearch
from everyformer.mixers.segments import SegmentAttention
from everyformer.mixers.sequential import GatedWindow, LongShortTerm
from everyformer.mixers.slim import SlimAttention
from everyformer.mixers.sources import FlatCross, HierarchicalCross, ParallelCross
from everyformer.mixers.spiking import SpikingLegendreMemory, SpikingMLP
from everyformer.mixers.state_space import StateSpace
from everyformer.mixers.subsampled import SubsampledAttention
from everyformer.mixers.subspace import SubspaceAttention
from everyformer.mixers.table import TokenMatrix
from everyformer.mixers.toeplitz import ToeplitzAttention
from everyformer.mixers.tokens_mlp import RandomMixing, TokenMLP
from everyformer.mixers.windows import Anchored, FilledWindows, Spread, Windows

__all__ = [
    "AddingConvMLP", "After", "Anchored", "Attention", "AxialEnhancedAttention", "BernoulliAttention",
    "BigBirdAttention", "CausalComparison", "Chain", "ChannelMix", "ChunkedLSHAttention", "CombinerAttention",
    "ConvAttention", "ConvMLP", "Correlation", "CosineAttention", "CosineFeatures", "CrossAttention",
    "CrossCorrelation", "CrossCovariance", "CrossedAttention", "CrossedCrossAttention", "DeformableAttention",
    "DeltaNet", "Depthwise", "Difference", "DifferentialAttention", "Directions", "EluFeatures", "EmbeddingFree",
    "EnhancedAttention", "ExactSearch", "FactorAttention", "FaissSearch", "FastfoodDirections", "FeatureMap",
    "FilledWindows", "FixedPointAttention", "FlatCross", "FourierFeatures", "FourierMixer", "FrontedAttention",
    "FusedAttention", "GatedAttention", "GatedConvolution", "GatedDeltaNet", "GatedLinearAttention", "GatedWindow",
    "GeneratedDirections", "GlobalLocal", "Hamburger", "HashFeatures", "HierarchicalCross", "Hyena", "Identity",
    "Inception", "IndependentDirections", "InvertedBottleneck", "LSHAttention", "LabelledGlobalLocal",
    "LandmarkAttention", "LargeKernel", "LatentAttention", "LegendreMemory", "LinearAttention", "Linformer",
    "LocalInteraction", "LongShortTerm", "LongformerAttention", "MemorizingAttention", "MixtureDirections",
    "MixtureKeys", "MultiResolution", "NystromAttention", "OrthogonalDirections", "PairedAttention",
    "ParallelCross", "PartialAttention", "PartialCrossAttention", "PlacedAttention", "PlacedCrossAttention",
    "PlaneStateSpace", "PoNet", "Pooling", "PositiveFeatures", "ProbSparse", "ProjectedAttention", "RandomMixing",
    "RealGatedRecurrence", "ReducedAttention", "ReluFeatures", "Retention", "RetrievedAttention", "RingAttention",
    "RoutedGlobal", "SampledBernoulliAttention", "SegmentAttention", "SharedLinearAttention", "SlimAttention",
    "SpectralDictionary", "SpikingLegendreMemory", "SpikingMLP", "Spread", "StateSpace", "StaticExpansion",
    "SubsampledAttention", "SubspaceAttention", "TimeMix", "ToeplitzAttention", "TokenMLP", "TokenMatrix",
    "Windows", "fit_codes", "lean_attention", "ring_attention", "sequence_over",
]  # fmt: skip
