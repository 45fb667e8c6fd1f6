"""Positions that are added to the values of an embedding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from everyformer.contracts import Position
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens


def sinusoid(places: Shaped[Tensor, "*b N"], width: int, base: float = 10000.0) -> Float[Tensor, "*b N D"]:
    """sin and cos of p / base^(2i/D), interleaved (Vaswani et al., 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, device=places.device) * (-math.log(base) / width))
    angles = places[..., None].float() * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., :width]


def halves(waves: Float[Tensor, "*b N D"]) -> Float[Tensor, "*b N D"]:
    """Interleaved sines and cosines as all sines, then all cosines."""
    return waves.unflatten(-1, (-1, 2)).mT.flatten(-2)


@part("positions")
class Sinusoidal(Position):
    """Fixed sines and cosines; on a grid each axis has its share of the width."""

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0) -> None:
        super().__init__()
        self.width, self.base = width, base

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The sinusoid of every place."""
        places = tokens.places[:, tokens.prefix :]
        axes = places.shape[-1]
        share = self.width // axes // 2 * 2
        waves = [sinusoid(places[..., i], share, self.base) for i in range(axes)]
        return F.pad(torch.cat(waves, -1), (0, self.width - share * axes)).to(tokens.values.dtype)


@part("positions")
class SinusoidalHalves(Position):
    """Fixed sines of all rates, then their cosines (Tensor2Tensor; Junczys-Dowmunt et al., Marian, 2018)."""

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0) -> None:
        super().__init__()
        self.width, self.base = width, base

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The sinusoid of every place on a line."""
        return halves(sinusoid(tokens.places[:, tokens.prefix :, 0], self.width, self.base)).to(tokens.values.dtype)


@part("positions")
class SinusoidalGrid(Position):
    """Fixed sines, then cosines, of the column, then both of the row (He et al., MAE, 2022, official code)."""

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, base: float = 10000.0) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"width is a multiple of 4: sine and cosine of row and column; given {width}")
        self.width, self.base = width, base

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The sinusoids of every cell; tokens on a line stand in one row."""
        places = tokens.places[:, tokens.prefix :]
        row = places[..., 0] if places.shape[-1] > 1 else torch.zeros_like(places[..., 0])
        waves = [sinusoid(p, self.width // 2, self.base) for p in (places[..., -1], row)]
        return torch.cat([halves(wave) for wave in waves], -1).to(tokens.values.dtype)


def within(tokens: Tokens, length: int) -> Int[Tensor, "#B N"]:
    """The places of tokens on a line, refused where they are beyond a table of `length`."""
    places = tokens.places[:, tokens.prefix :, 0].long()
    count = 0 if tokens.lengths is not None else places.shape[1]
    if places.device.type == "cpu" and places.numel() and not torch.compiler.is_compiling():
        count = int(places.max()) + 1
    if count > length:
        raise BadInput(
            f"a sequence of {count} tokens, and learned positions for {length}; "
            f"shorten the input, or build with length={count} or with other positions"
        )
    return places


@part("positions")
class Learned(Position):
    """A learned vector for each place up to `length` (Gehring et al., 2017; Devlin et al., 2019)."""

    stands = "embedding"

    def __init__(self, width: int, heads: int = 1, *, length: int = 512, std: float = 0.02) -> None:
        super().__init__()
        self.table = nn.Embedding(length, width)
        nn.init.normal_(self.table.weight, std=std)

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The vector of every place; a place beyond the table is an error."""
        return self.table(within(tokens, self.table.num_embeddings))


@part("positions")
class LearnedGrid(Position):
    """A learned vector for each cell of a grid, resampled to the grid that comes (Dosovitskiy et al., 2021, 3.2)."""

    stands = "embedding"

    def __init__(
        self, width: int, heads: int = 1, *, grid: tuple[int, ...] = (14, 14), mode: str = "bicubic", std: float = 0.02
    ) -> None:
        super().__init__()
        if len(grid) != 2:
            raise ValueError(f"grid is (height, width) in patches; given {grid}")
        if min(grid) < 1:
            raise ValueError(
                f"a grid has a row and a column at least; given {grid}: is the patch larger than the picture?"
            )
        self.grid, self.mode = tuple(grid), mode
        self.table = nn.Parameter(torch.randn(math.prod(grid), width) * std)

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"]:
        """The vector of every cell, resampled where the grid is another, or is left open by an export."""
        if tokens.grid is None:
            raise BadInput("LearnedGrid needs tokens on a grid; use Learned for sequences")
        if all(isinstance(side, int) for side in tokens.grid) and tuple(tokens.grid) == self.grid:
            return self.table[None]
        image = self.table.T.unflatten(1, self.grid)[None]
        resized = F.interpolate(image, tokens.grid, mode=self.mode, antialias=self.mode in ("bilinear", "bicubic"))
        return resized.flatten(2).mT.to(self.table.dtype)
