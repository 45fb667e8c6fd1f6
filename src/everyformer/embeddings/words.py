"""Pictures into patches that carry smaller patches, their words, behind their own values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.image import check_picture
from everyformer.grids import places_of
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class PatchWords(Finish):
    """Patches, the sentences, made of words: cells of one convolution over the picture (Han et al., TNT, 2021, equation 1).

    A token is D = d + words * `word_width` wide: a sentence of width d, which is LN(W LN(words)), and behind it its words,
    those of a patch row by row. All patches share the positions of their words. Leading tokens have words of zeros.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        stride: int = 4,
        word_width: int = 24,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        word_norm: Spec[Norm] | None = None,
        sentence_norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        side = patch // stride
        flat = side * side * word_width
        if patch % stride or flat >= width:
            raise ValueError(
                f"words of {stride} pixels a side fill a patch of {patch}, and {side * side} of width {word_width} leave "
                f"room for a sentence in tokens of width {width}; give other sizes"
            )
        super().__init__(width - flat, positions=positions, first=first, norm=norm, dropout=dropout)
        self.patch, self.side, self.channels, self.image = patch, side, channels, image
        self.words = nn.Conv2d(channels, word_width, 7, stride, 3)
        self.places = nn.Parameter(torch.randn(word_width, side, side) * 0.02)
        self.word_norm = self.make("word_norm", word_norm, flat)
        self.project = nn.Linear(flat, self.width)
        self.sentence_norm = self.make("sentence_norm", sentence_norm, self.width)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B C Y X"], context: Context | None = None
    ) -> Tokens:
        """Sentences of pictures, their words behind them; the last patches are filled with zeros."""
        check_picture(inputs, self.channels)
        inputs = F.pad(inputs, (0, -inputs.shape[3] % self.patch, 0, -inputs.shape[2] % self.patch))
        grid = inputs.shape[2] // self.patch, inputs.shape[3] // self.patch
        words = (self.cut(inputs) + self.places).permute(0, 1, 3, 4, 2).flatten(2)
        values = self.project(words if self.word_norm is None else self.word_norm(words))
        values = values if self.sentence_norm is None else self.sentence_norm(values)
        sentences = self.finish(Tokens(values, positions=places_of(grid, values.device), grid=grid))
        words = F.pad(words, (0, 0, sentences.prefix, 0))
        return sentences.update(torch.cat((sentences.values, words), -1))

    def cut(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N c s s"]:
        """The words of each patch."""
        return _pieces(self.words(inputs), self.side)

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros."""
        size = image or self.image
        return {"inputs": torch.zeros(batch, self.channels, size, size)}


@part("embeddings")
class PatchesOfWords(PatchWords):
    """The same, where the convolution sees one patch at a time (Han et al., TNT, 2021, their code as it was revised)."""

    def cut(self, inputs: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B N c s s"]:
        """The words of each patch."""
        pieces = _pieces(inputs, self.patch)
        return self.words(pieces.flatten(0, 1)).unflatten(0, pieces.shape[:2])


def _pieces(cells: Float[Tensor, "B C Y X"], side: int) -> Float[Tensor, "B N C s s"]:
    """Squares of a map, row by row."""
    return cells.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
