"""Pictures and sounds into Tokens, some of which are hidden."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.image import Patches
from everyformer.embeddings.waves import WaveConvs
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


def check_cells(marked: Tensor, tokens: Tokens, what: str) -> None:
    """Refuse what is not one boolean for each token."""
    if marked.dtype != torch.bool or marked.shape != tokens.values.shape[:2]:
        raise BadInput(
            f"expected {what} as booleans {tuple(tokens.values.shape[:2])}; given {marked.dtype} of "
            f"shape {tuple(marked.shape)}; one value for each, in order"
        )


def covered(tokens: Tokens, hidden: Bool[Tensor, "B N"], learned: Float[Tensor, " D"], what: str) -> Tokens:
    """The tokens with one learned vector in the place of those that are hidden."""
    check_cells(hidden, tokens, what)
    return tokens.update(torch.where(hidden[..., None], learned.to(tokens.values.dtype), tokens.values))


@part("embeddings")
class MaskedPatches(Patches):
    """Patches, of which the `hidden` ones of a batch give way to one learned token (Bao et al., BEiT, 2022, section 2.3).

    A `seen_norm` normalises the patches alone, before any is hidden (Xie et al., SimMIM, 2022, their code for Swin).
    """

    def __init__(
        self,
        width: int,
        *,
        patch: int = 16,
        channels: int = 3,
        image: int = 224,
        first: int = 0,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        seen_norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(
            width, patch=patch, channels=channels, image=image, first=first, positions=positions, norm=norm,
            dropout=dropout, bias=bias,
        )  # fmt: skip
        self.seen_norm = self.make("seen_norm", seen_norm, width)
        self.masked = nn.Parameter(torch.randn(width) * 0.02)

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B C Y X"],
        context: Context | None = None,
        *,
        hidden: Bool[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of pictures; True in `hidden` means that the model does not see the patch."""
        tokens = self.cut(inputs)
        if self.seen_norm is not None:
            tokens = tokens.update(self.seen_norm(tokens.values))
        if hidden is not None:
            tokens = covered(tokens, hidden, self.masked, "hidden patches")
        return self.finish(tokens)

    def example(self, batch: int = 1, image: int | None = None) -> dict[str, Tensor]:
        """Pictures of zeros, every second patch hidden."""
        size = image or self.image
        cells = (-(-size // self.patch)) ** 2
        return {**super().example(batch, image), "hidden": (torch.arange(cells) % 2 == 0).expand(batch, -1)}


@part("embeddings")
class SeenPatches(Patches):
    """Patches, of which only those that a batch says are `seen` are looked at by others (Zhai et al., MP3, 2022, eq. 2).

    The others ask and are not seen, not even by themselves: they are marked as padding is. Leading tokens are seen.
    """

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B C Y X"],
        context: Context | None = None,
        *,
        seen: Bool[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of pictures."""
        tokens = self.cut(inputs)
        if seen is None:
            return self.finish(tokens)
        check_cells(seen, tokens, "seen patches")
        return self.finish(tokens.replace(mask=seen))


@part("embeddings")
class MaskedWaves(WaveConvs):
    """Raw sound, of which the `hidden` frames of a batch give way to one learned vector (Baevski et al., wav2vec 2.0, 2020,
    section 2).

    What came in there is noted as 'frames' (B, N, C), before any is hidden, for a head that says what it was.
    """

    def __init__(
        self,
        width: int,
        *,
        widths: tuple[int, ...] = (512,) * 7,
        kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2),
        strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2),
        bias: bool = False,
        each: Spec[Norm] | None = None,
        eps: float = 1e-5,
        samples: int = 16000,
        positions: Spec[Position] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, widths=widths, kernels=kernels, strides=strides, bias=bias, each=each, eps=eps, samples=samples,
            positions=positions, norm=norm, dropout=dropout,
        )  # fmt: skip
        self.masked = nn.Parameter(torch.rand(width))

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B T"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
        hidden: Bool[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of sounds; True in `hidden` means that the model does not see the frame."""
        frames, mask = self.frames(inputs, mask)
        if context is not None and context.notes is not None:
            context.notes["frames"] = frames
        tokens = self.told(frames, mask, context)
        return self.finish(tokens if hidden is None else covered(tokens, hidden, self.masked, "hidden frames"))

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A faint hum, every second frame hidden."""
        sounds = super().example(batch)
        count = self.real(torch.ones(1, self.samples, dtype=torch.bool)).shape[1]
        return {**sounds, "hidden": (torch.arange(count) % 2 == 0).expand(batch, -1)}
