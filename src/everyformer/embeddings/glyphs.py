"""Vectors of tokens made of how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def drawn(tokens: Sequence[str], *, side: int = 16, font: str | None = None) -> Float[Tensor, "V P"]:
    """The characters of each token side by side, scaled to `side` x `side` grey pixels from 0 to 1, row by row.

    `font` is a file; DejaVu Sans without one. What is not printable is left out.
    """
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(font or font_manager.findfont("DejaVu Sans"), 4 * side)
    height = sum(face.getmetrics())
    pictures = np.zeros((len(tokens), side * side), dtype=np.float32)
    for row, token in enumerate(tokens):
        text = "".join(letter for letter in token if letter.isprintable())
        canvas = Image.new("L", (max(height, math.ceil(face.getlength(text))), height))
        ImageDraw.Draw(canvas).text((canvas.width / 2, 0), text, fill=255, font=face, anchor="ma")
        small = canvas.resize((side, side), Image.Resampling.BOX)
        pictures[row] = np.asarray(small, dtype=np.float32).ravel() / 255
    return torch.from_numpy(pictures)


def principal(pictures: Float[Tensor, "V P"], width: int) -> Float[Tensor, "V D"]:
    """The first `width` principal components of each row; those that there are not are zero."""
    centred = (pictures - pictures.mean(0)).double()
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    found = (left * sizes)[:, :width].float()
    return F.pad(found, (0, width - found.shape[1]))


def glyph_vectors(
    tokens: Sequence[str], width: int, *, side: int = 16, font: str | None = None, seed: int = 0
) -> Float[Tensor, "V D"]:
    """A vector of length 1 for each token: the principal components of its drawing.

    A token of which nothing is seen, or that looks like one before it, has a random vector, so that no two are the same.
    """
    pictures = drawn(tokens, side=side, font=font)
    vectors = principal(pictures, width)
    random = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    _, kind = pictures.unique(dim=0, return_inverse=True)
    first = torch.full((len(kind),), len(kind)).scatter_reduce(0, kind, torch.arange(len(kind)), "amin")
    own = (first[kind] == torch.arange(len(kind))) & (pictures.amax(1) > 0)
    return F.normalize(torch.where(own[:, None], vectors, random), dim=-1)
