"""Large pictures window by window."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.convolution import resized


def tiled(
    answer: Callable[[Tensor], Tensor], picture: Float[Tensor, "1 C Y X"], side: int, stride: int
) -> Float[Tensor, "1 V Y X"]:
    """What `answer` says of windows of `side` pixels every `stride` ones, the mean where they lie over each other.

    The memory is that of one window and of the whole answer. A picture no larger than a window is answered at once.
    """
    height, width = picture.shape[2:]
    if max(height, width) <= side:
        return resized(answer(picture), (height, width))
    total = count = torch.zeros(())
    for top in _starts(height, side, stride):
        for left in _starts(width, side, stride):
            window = picture[:, :, top : top + side, left : left + side]
            said = resized(answer(window), window.shape[2:])
            if not total.dim():
                total, count = said.new_zeros(1, said.shape[1], height, width), said.new_zeros(1, 1, height, width)
            total[:, :, top : top + side, left : left + side] += said
            count[:, :, top : top + side, left : left + side] += 1
    return total.div_(count)


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows begin; the last one ends at the edge."""
    last = max(length - side, 0)
    return [*range(0, last, stride), last]
