"""State spaces with two axes: convolutions of a map whose kernels a linear recurrence over rows and columns gives."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer, mix
from everyformer.grids import as_map, as_update
from everyformer.mixers.attention import Attention
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("mixers")
class PlaneStateSpace(Mixer):
    """A convolution whose kernel is the answer of a state space of two axes to one cell (Baron et al., 2023, section 3).

    A horizontal and a vertical state of `state` numbers move right and down: h = a1 h + a2 v and v = a3 h + a4 v, halved
    where both come from a cell that has both. `systems` sets of weights are shared by the channels in turn; each
    channel reads the states by weights of its own. It looks from two opposite corners, or from all four (`corners`). The
    time grows as N log N. Leading tokens get no update.
    """

    capabilities = frozenset({"grid", "ordered"})

    def __init__(self, width: int, *, state: int = 16, systems: int = 2, corners: int = 2) -> None:
        super().__init__()
        if corners not in (2, 4) or width % systems:
            raise ValueError(
                f"it looks from 2 or 4 corners, and a number of systems divides the width {width}; given "
                f"corners={corners} and systems={systems}"
            )
        self.flips = ((), (2, 3)) if corners == 2 else ((), (2,), (3,), (2, 3))
        many, channels = corners * systems, corners * width
        self.move = nn.Parameter(torch.randn(4, many, state) * 0.2)
        self.enter = nn.Parameter(torch.randn(2, many, state) * 0.2)
        self.read = nn.Parameter(torch.randn(2, channels, state))
        self.skip = nn.Parameter(torch.randn(width))

    def kernel(self, rows: int, columns: int) -> Float[Tensor, "E Y X"]:
        """The answer to a single 1 in the corner, for the channels of each corner; first row and column count twice."""
        a1, a2, a3, a4 = self.move.sigmoid()
        row = torch.arange(rows, device=self.move.device)[:, None]
        column = torch.arange(columns, device=self.move.device)
        h, v = self.enter.sigmoid()[:, None] * (row == 0)[..., None]
        found = []
        for diagonal in range(rows + columns - 1):
            found.append(torch.stack((h, v), 1))
            both = (row > 0) & (row < diagonal) | ((row == 0) & (diagonal == 0))
            share = torch.where(both, 0.5, 1.0)[..., None]
            right, down = share * (a1 * h + a2 * v), share * (a3 * h + a4 * v)
            h, v = right, torch.cat((torch.zeros_like(down[:1]), down[:-1]))
        states = torch.stack(found)[row + column, row]
        channel = torch.arange(self.read.shape[1], device=row.device) % self.move.shape[1]
        kernel = (states[..., channel, :] * self.read).sum((2, 4)) * self.read.shape[2] ** -0.5
        border = (row == 0).logical_xor(column == 0)
        return torch.where(border[..., None], 2 * kernel, kernel).permute(2, 0, 1)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The sum of what is seen from each corner, and a share of the cell itself."""
        cells = as_map(tokens)
        rows, columns = cells.shape[2:]
        answer = self.skip[:, None, None] * cells
        for flip, kernel in zip(self.flips, self.kernel(rows, columns).chunk(len(self.flips))):
            answer = answer + convolved(cells.flip(flip), kernel).flip(flip)
        return as_update(tokens, answer)


@part("mixers")
class After(Mixer):
    """`mixer` on what `first` makes of the tokens; leading tokens come to it as they are (Baron et al., 2023, section 4)."""

    capabilities = frozenset({"grid"})

    def __init__(
        self,
        width: int,
        *,
        first: Spec[Mixer] = spec(PlaneStateSpace),  # noqa: B008
        mixer: Spec[Mixer] = spec(Attention),  # noqa: B008
    ) -> None:
        super().__init__()
        self.first: Mixer = self.make("first", first, width)
        self.mixer: Mixer = self.make("mixer", mixer, width)
        both = self.first.capabilities & self.mixer.capabilities & {"causal", "masked", "padding", "packed"}
        either = (self.first.capabilities | self.mixer.capabilities) & {"grid", "ordered"}
        self.capabilities = both | either

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The two after each other."""
        context = context or Context()
        made = mix(self.first, tokens, context)
        leading = tokens.values[:, : tokens.prefix]
        return mix(self.mixer, tokens.update(torch.cat((leading, made[:, tokens.prefix :]), 1)), context)


def convolved(cells: Float[Tensor, "B D Y X"], kernel: Float[Tensor, "D Y X"]) -> Float[Tensor, "B D Y X"]:
    """The causal convolution of each channel along both axes, by Fourier transforms of twice the sides, in float32."""
    rows, columns = cells.shape[2:]
    size, dtype = (2 * rows, 2 * columns), torch.promote_types(cells.dtype, torch.float32)
    spectrum = torch.fft.rfft2(cells.to(dtype), s=size) * torch.fft.rfft2(kernel.to(dtype), s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., :rows, :columns].to(cells.dtype)
