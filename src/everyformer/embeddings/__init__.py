"""Parts that turn raw input into Tokens."""

from everyformer.embeddings.audio import SpectrogramFrames, SpectrogramPatches
from everyformer.embeddings.bytes import Bytes
from everyformer.embeddings.conv import ConvStem, OverlapPatches
from everyformer.embeddings.image import Patches
from everyformer.embeddings.series import TimeSteps, Variates
from everyformer.embeddings.text import MarkedText, Text

__all__ = [
    "Bytes", "ConvStem", "MarkedText", "OverlapPatches", "Patches", "SpectrogramFrames", "SpectrogramPatches",
    "Text", "TimeSteps", "Variates",
]  # fmt: skip
