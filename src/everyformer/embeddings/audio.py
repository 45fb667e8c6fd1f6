"""Spectrograms, (B, T, F) with time first, into Tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.context import Context, running_positions
from everyformer.contracts import Norm, Position
from everyformer.embeddings.checks import check_ragged
from everyformer.embeddings.finish import Finish
from everyformer.errors import BadInput
from everyformer.grids import as_tokens
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class SpectrogramFrames(Finish):
    """Each frame of a spectrogram is a token, through one linear map over its `mels` bins.

    `frames` is the length that an example has; any other is taken.
    """

    def __init__(
        self,
        width: int,
        *,
        mels: int = 128,
        frames: int = 1024,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.mels, self.frames = mels, frames
        self.project = nn.Linear(mels, width)

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B T F"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Tokens:
        """Tokens of spectrograms; `mask` is true where a frame is real."""
        check_spectrogram(inputs, self.mels)
        check_ragged(inputs, mask)
        places = running_positions(mask, inputs.shape[1], inputs.device, context or Context())
        return self.finish(Tokens(self.project(inputs), mask=mask, positions=places))

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Spectrograms of zeros."""
        return {"inputs": torch.zeros(batch, self.frames, self.mels)}


@part("embeddings")
class SpectrogramConvs(Finish):
    """Two convolutions over three frames each, GELU after both, the second with stride 2 (Whisper, 2022, section 2.2).

    `frames` is the length that an example has; any other is taken.
    """

    def __init__(
        self,
        width: int,
        *,
        mels: int = 80,
        frames: int = 3000,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, positions=positions, norm=norm, dropout=dropout)
        self.mels, self.frames = mels, frames
        self.convs = nn.ModuleList((nn.Conv1d(mels, width, 3, 1, 1), nn.Conv1d(width, width, 3, 2, 1)))

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B T F"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Tokens:
        """Tokens of spectrograms, one for two frames; `mask` is true where a frame is real."""
        check_spectrogram(inputs, self.mels)
        check_ragged(inputs, mask)
        values = inputs.mT
        for conv in self.convs:
            seen = values if mask is None else values * mask[:, None]
            values = F.gelu(conv(seen))
        after = None if mask is None else mask[:, ::2]
        places = running_positions(after, values.shape[2], inputs.device, context or Context())
        return self.finish(Tokens(values.mT, mask=after, positions=places))

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Spectrograms of zeros."""
        return {"inputs": torch.zeros(batch, self.frames, self.mels)}


@part("embeddings")
class SpectrogramPatches(Finish):
    """Square patches of a spectrogram, overlapping where `stride` < `patch` (Gong et al., AST, 2021, section 2.1).

    The grid is (frequency, time); frames after the last whole patch are left out. `first` learned tokens (class,
    distillation) stand in front. `frames` is the length that an example has; any other of at least `patch` is taken
    where the positions are.
    """

    gives_grid = True

    def __init__(
        self,
        width: int,
        *,
        mels: int = 128,
        frames: int = 1024,
        patch: int = 16,
        stride: int = 10,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        if min(mels, frames) < patch:
            raise ValueError(f"a spectrogram of {mels} bins and {frames} frames holds no patch of {patch}x{patch}")
        super().__init__(width, positions=positions, first=first, norm=norm, dropout=dropout)
        self.mels, self.frames, self.patch = mels, frames, patch
        self.project = nn.Conv2d(1, width, patch, stride)

    def forward(  # type: ignore[override]
        self, inputs: Float[Tensor, "B T F"], context: Context | None = None
    ) -> Tokens:
        """Tokens of spectrograms."""
        check_spectrogram(inputs, self.mels)
        if inputs.shape[1] < self.patch:
            raise BadInput(
                f"a spectrogram of {inputs.shape[1]} frames, and patches of {self.patch}; "
                f"pad it to at least {self.patch} frames"
            )
        return self.finish(as_tokens(self.project(inputs.mT[:, None])))

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Spectrograms of zeros."""
        return {"inputs": torch.zeros(batch, self.frames, self.mels)}

    @staticmethod
    def grid(mels: int, frames: int, patch: int, stride: int) -> tuple[int, int]:
        """How many patches lie along frequency and along time."""
        return (mels - patch) // stride + 1, (frames - patch) // stride + 1


def check_spectrogram(inputs: Tensor, mels: int) -> None:
    """Refuse what is not a batch of spectrograms with the bins that were built for."""
    if inputs.dim() != 3 or inputs.shape[2] != mels:
        raise BadInput(
            f"expected spectrograms (B, frames, {mels}); given a tensor of shape {tuple(inputs.shape)}; "
            f"build with mels={inputs.shape[2] if inputs.dim() == 3 else '...'} or compute them with {mels} bins"
        )
