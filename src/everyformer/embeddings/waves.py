"""Raw sound, (B, T), into Tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.context import Context, running_positions
from everyformer.contracts import Norm, Position
from everyformer.embeddings.checks import check_ragged
from everyformer.embeddings.finish import Finish
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class WaveConvs(Finish):
    """Convolutions with GELU, each over the output of the one before, then a norm and a map to the width.

    Baevski et al., wav2vec 2.0, 2020, section 2: a token stands for as many samples as the product of the `strides`.
    `each` is the norm after every convolution; without it the first one alone has a norm, of each channel over time
    (their base model). `samples` is the length that an example has; any other that fills the convolutions is taken.
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
        super().__init__(width, positions=positions, norm=norm, dropout=dropout)
        if not len(widths) == len(kernels) == len(strides):
            raise ValueError(f"one width, kernel and stride for each convolution; given {widths}, {kernels}, {strides}")
        self.samples, self.shapes = samples, tuple(zip(kernels, strides, strict=True))
        self.least = 1
        for kernel, stride in reversed(self.shapes):
            self.least = (self.least - 1) * stride + kernel
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, kernel, stride, bias=bias)
            for (before, after), (kernel, stride) in zip(pairwise((1, *widths)), self.shapes, strict=True)
        )
        self.over_time = OverTime(widths[0]) if each is None else None
        self.each = (
            None if each is None else nn.ModuleList(self.make("each", each, each_width) for each_width in widths)
        )
        self.before = nn.LayerNorm(widths[-1], eps=eps)
        self.project = nn.Linear(widths[-1], width)

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B T"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Tokens:
        """Tokens of sounds; `mask` is true where a sample is real, and a token is real that saw no other."""
        frames, mask = self.frames(inputs, mask)
        return self.finish(self.told(frames, mask, context))

    def frames(
        self, inputs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None
    ) -> tuple[Float[Tensor, "B N C"], Bool[Tensor, "B N"] | None]:
        """What the convolutions and the norm after them make of sounds, and which of it is real."""
        if inputs.dim() != 2 or inputs.shape[1] < self.least:
            raise BadInput(
                f"expected sounds (B, samples) of at least {self.least} samples; given a tensor of shape "
                f"{tuple(inputs.shape)}; pad it"
            )
        check_ragged(inputs, mask)
        values = inputs[:, None]
        for i, (conv, (kernel, stride)) in enumerate(zip(self.convs, self.shapes, strict=True)):
            values = conv(values)
            mask = None if mask is None else whole(mask, kernel, stride)
            if self.each is not None:
                values = self.each[i](values.mT).mT
            elif self.over_time is not None and i == 0:
                values = self.over_time(values, mask)
            values = F.gelu(values)
        return self.before(values.mT), mask

    def told(self, frames: Float[Tensor, "B N C"], mask: Bool[Tensor, "B N"] | None, context: Context | None) -> Tokens:
        """Frames as tokens."""
        places = running_positions(mask, frames.shape[1], frames.device, context or Context())
        return Tokens(self.project(frames), mask=mask, positions=places)

    def real(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B N"]:
        """Which frames saw real samples alone."""
        for kernel, stride in self.shapes:
            mask = whole(mask, kernel, stride)
        return mask

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Sounds that are silent but for a faint hum, for silence has no norm."""
        hum = torch.arange(self.samples).sin() * 1e-2
        return {"inputs": hum.expand(batch, -1)}


def whole(mask: Bool[Tensor, "B T"], kernel: int, stride: int) -> Bool[Tensor, "B N"]:
    """Where a convolution sees real steps alone."""
    return mask.unfold(1, kernel, stride).all(-1)


class OverTime(nn.Module):
    """(x - mean) / sqrt(var + eps) of each channel over the real steps of a sound, scaled and shifted per channel."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Float[Tensor, "B C T"], mask: Bool[Tensor, "B T"] | None) -> Float[Tensor, "B C T"]:
        """Normalised values."""
        if mask is None:
            return F.group_norm(values, len(self.weight), self.weight, self.bias, self.eps)
        real = mask[:, None].to(values.dtype)
        count = real.sum(-1, keepdim=True).clamp(min=1)
        mean = (values * real).sum(-1, keepdim=True) / count
        spread = ((values - mean).square() * real).sum(-1, keepdim=True) / count
        normed = (values - mean) / (spread + self.eps).sqrt()
        return normed * self.weight[:, None] + self.bias[:, None]
