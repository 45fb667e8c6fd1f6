"""Parts that turn raw input into Tokens."""

from everyformer.embeddings.audio import SpectrogramConvs, SpectrogramFrames, SpectrogramPatches
from everyformer.embeddings.bytes import Bytes
from everyformer.embeddings.conv import ConvStem, OverlapPatches
from everyformer.embeddings.frames import FrameConvs, SpikingFrameConvs
from everyformer.embeddings.image import ActivatedPatches, AnchoredPatches, FinePatches, NormedPatches, Patches
from everyformer.embeddings.masked import MaskedPatches, MaskedWaves, SeenPatches
from everyformer.embeddings.passages import Passages
from everyformer.embeddings.patterns import Patterns
from everyformer.embeddings.pixels import RawPixels
from everyformer.embeddings.quadtree import QuadPatches
from everyformer.embeddings.relations import PairPatches
from everyformer.embeddings.resnet import ResidualStem, StandardStem
from everyformer.embeddings.series import ConvSteps, TimeSteps, Variates
from everyformer.embeddings.stems import HalvingStem, PairStem, PatchwiseStem, ResidualPatches, StridedStem
from everyformer.embeddings.t2t import TokensToToken
from everyformer.embeddings.tables import BinaryFilters, FixedVectors, RealFilters
from everyformer.embeddings.text import DomainText, MarkedText, SpelledText, Text, TiedText
from everyformer.embeddings.waves import WaveConvs
from everyformer.embeddings.words import PatchesOfWords, PatchWords

__all__ = [
    "ActivatedPatches", "AnchoredPatches", "BinaryFilters", "Bytes", "ConvStem", "ConvSteps", "DomainText",
    "FinePatches", "FixedVectors", "FrameConvs", "HalvingStem", "MarkedText", "MaskedPatches", "MaskedWaves",
    "NormedPatches", "OverlapPatches", "PairPatches", "PairStem", "Passages", "PatchWords", "Patches",
    "PatchesOfWords", "PatchwiseStem", "Patterns", "QuadPatches", "RawPixels", "RealFilters", "ResidualPatches",
    "ResidualStem", "SeenPatches", "SpectrogramConvs", "SpectrogramFrames", "SpectrogramPatches", "SpelledText",
    "SpikingFrameConvs", "StandardStem", "StridedStem", "Text", "TiedText", "TimeSteps", "TokensToToken", "Variates",
    "WaveConvs",
]  # fmt: skip
