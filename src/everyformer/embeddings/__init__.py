"""Parts that turn raw input into Tokens."""

from everyformer.embeddings.image import Patches
from everyformer.embeddings.text import Text

__all__ = ["Patches", "Text"]
