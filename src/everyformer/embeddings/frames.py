"""Frames of a spectrogram through a few convolutions along time."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.embeddings.audio import check_spectrogram
from everyformer.embeddings.finish import Finish
from everyformer.registry import part
from everyformer.spikes import Firing
from everyformer.tokens import Tokens


@part("embeddings")
class FrameConvs(Finish):
    """`convs` convolutions over three frames, each norm(relu(conv)), then x + conv(x) for the places.

    Liu et al., LMUFormer, 2024, section 3.1 and official code. `frames` is the length that an example has; any other is taken.
    """

    def __init__(self, width: int, *, mels: int = 128, frames: int = 128, convs: int = 4, dropout: float = 0.0) -> None:
        super().__init__(width, positions=None, dropout=dropout)
        if convs < 1:
            raise ValueError(f"convs is at least 1; given {convs}")
        self.mels, self.frames = mels, frames
        widths = [mels, *(width,) * convs]
        self.convs = nn.ModuleList(_over_three(a, b) for a, b in pairwise(widths))
        self.places = _over_three(width, width)
        self.after = nn.ModuleList(self.activation(width) for _ in range(convs))

    def activation(self, width: int) -> nn.Module:
        """What comes after each convolution."""
        return _RectifiedNorm(width)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B T F"], context: Context | None = None
    ) -> Tokens:
        """Tokens of spectrograms, one a frame."""
        check_spectrogram(inputs, self.mels)
        values = inputs
        for conv, after in zip(self.convs, self.after, strict=True):
            values = after(conv(values.mT).mT)
        return self.finish(Tokens(values + self.placed(self.places(values.mT).mT)))

    def placed(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """What the last convolution adds."""
        return values

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Spectrograms of zeros."""
        return {"inputs": torch.zeros(batch, self.frames, self.mels)}


@part("embeddings")
class SpikingFrameConvs(FrameConvs):
    """The same with spiking neurons: spikes(norm(conv)) throughout (Liu et al., LMUFormer, 2024, section 3.2)."""

    def __init__(self, width: int, *, mels: int = 128, frames: int = 128, convs: int = 4, dropout: float = 0.0) -> None:
        super().__init__(width, mels=mels, frames=frames, convs=convs, dropout=dropout)
        self.last = Firing(width)

    def activation(self, width: int) -> nn.Module:
        """A norm, then spikes."""
        return Firing(width)

    def placed(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Spikes."""
        return self.last(values)


class _RectifiedNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, values: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """norm(relu(x))."""
        return self.norm(F.relu(values).mT).mT


def _over_three(width: int, to: int) -> nn.Conv1d:
    return nn.Conv1d(width, to, 3, 1, 1, bias=False)
