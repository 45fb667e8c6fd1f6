"""Pictures of several sizes in one batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput


def by_size(
    call: Callable[..., Tensor], sizes: Int[Tensor, "B 2"], inputs: Float[Tensor, "B C Y X"], **fields: Tensor
) -> Tensor:
    """What `call` answers to padded pictures of these heights and widths: those of each size together, without padding.

    No part sees any padding, so each answer is that of the picture alone, whatever the model is made of.
    """
    _check(inputs, sizes)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (height, width) in enumerate(sizes.tolist()):
        groups.setdefault((height, width), []).append(row)
    answers = [
        call(inputs[rows, :, :height, :width], **{name: each[rows] for name, each in fields.items()})
        for (height, width), rows in groups.items()
    ]
    if len({each.shape[1:] for each in answers}) > 1:
        shown = ", ".join(str(tuple(each.shape[1:])) for each in answers)
        raise BadInput(f"the answers to pictures of several sizes are of the shapes {shown}; give one size at a time")
    order = torch.tensor([row for rows in groups.values() for row in rows], device=inputs.device)
    return torch.cat(answers)[order.argsort()]


def _check(inputs: Tensor, sizes: Tensor) -> None:
    """Refuse what are not the heights and widths of these pictures."""
    largest = torch.tensor(inputs.shape[-2:], device=sizes.device)
    if inputs.dim() != 4 or sizes.shape != (len(inputs), 2) or not ((sizes > 0) & (sizes <= largest)).all():
        raise BadInput(
            f"sizes are the height and width of each picture, (B, 2), from 1 to those of the padded batch; given "
            f"{sizes.tolist()} for pictures {tuple(inputs.shape)}"
        )
