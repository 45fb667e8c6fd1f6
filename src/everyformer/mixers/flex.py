"""FlexAttention: a kernel that leaves out the blocks of the scores in which a mask allows nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.masks import Mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""The side of the blocks that the kernel works on."""


def worthwhile(mask: Mask, count: int, device: torch.device) -> bool:
    """Whether the kernel runs here and at least half of the blocks can be left out."""
    if device.type != "cuda" or count < 8 * BLOCK or importlib.util.find_spec("triton") is None:
        return False
    return left_out(mask, count, device) >= 0.5


@lru_cache(maxsize=64)
def left_out(mask: Mask, count: int, device: torch.device) -> float:
    """The share of blocks in which the mask allows nothing."""
    return blocks(mask, count, device).sparsity() / 100


@lru_cache(maxsize=64)
def blocks(mask: Mask, count: int, device: torch.device) -> BlockMask:
    """The blocks of a mask over `count` tokens that are all real; made once, they do not change."""
    return _blocks(lambda b, h, query, key: mask.allows(query, key), None, count, device)


def padded_blocks(mask: Mask, places: Int[Tensor, "B N"], real: Bool[Tensor, "B N"]) -> BlockMask:
    """The blocks of a mask over tokens of which some are padding."""

    def allows(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask.allows(places[b, query], places[b, key]) & real[b, key]

    return _blocks(allows, len(real), real.shape[1], real.device)


def _blocks(allows: Callable[..., Tensor], batch: int | None, count: int, device: torch.device) -> BlockMask:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(allows, batch, None, count, count, device=device, BLOCK_SIZE=BLOCK)


@cache
def _kernel(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


def flex(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B G M V"],
    block_mask: BlockMask,
    scale: float,
) -> Float[Tensor, "B H N V"]:
    """softmax(q k^T scale) v over the blocks of a mask; on the CPU, where it has no backward pass, uncompiled."""
    kernel = _kernel(query.is_cuda and not torch.compiler.is_compiling())
    return kernel(query, key, value, block_mask=block_mask, scale=scale, enable_gqa=key.shape[1] != query.shape[1])
