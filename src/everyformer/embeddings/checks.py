"""What is asked of a batch before it is worked on, so that a mistake is named and no kernel is blamed."""

from __future__ import annotations

import torch
from torch import Tensor

from everyformer.errors import BadInput


def looks(values: Tensor) -> bool:
    """Whether values may be looked at: on the CPU, where it costs little, and not while being compiled."""
    return values.device.type == "cpu" and values.numel() > 0 and not torch.compiler.is_compiling()


def check_ids(ids: Tensor, limit: int, what: str, held: str, remedy: str) -> None:
    """Refuse ids that are no integers (B, N), and those outside 0 to `limit` - 1."""
    if ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
        raise BadInput(
            f"expected integers (batch, tokens) for a {what}; given {ids.dtype} of shape {tuple(ids.shape)}; "
            "convert them with .long(), and give one sequence as a batch of one: ids[None]"
        )
    if not looks(ids):
        return
    low, high = ids.aminmax()
    if low < 0 or high >= limit:
        bad = int(low if low < 0 else high)
        raise BadInput(f"{what} {bad}, and {held} has {limit} (0 to {limit - 1}); {remedy}")


def check_ragged(inputs: Tensor, mask: Tensor | None, lengths: Tensor | None = None) -> None:
    """Refuse a mask or lengths that do not belong to `inputs` (B, N, ...)."""
    shape = tuple(inputs.shape[:2])
    if mask is not None and lengths is not None:
        raise BadInput("given both a mask and lengths; a padded batch has a mask, a packed one has lengths")
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != shape):
        raise BadInput(
            f"expected a mask of shape {shape}, True where a token is real; given {mask.dtype} of shape "
            f"{tuple(mask.shape)}; convert it with .bool(), one value for each token"
        )
    if lengths is None:
        return
    if shape[0] != 1:
        raise BadInput(f"packed sequences stand in one row (1, tokens) beside their lengths; given a batch {shape}")
    if looks(lengths) and int(lengths.sum()) != shape[1]:
        raise BadInput(f"lengths that add up to {int(lengths.sum())}, and {shape[1]} packed tokens; they must be equal")
