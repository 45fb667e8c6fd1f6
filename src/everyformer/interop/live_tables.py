"""What tables of live models' names share; it goes once the last of them is a `Family`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.interop.weights import Pair, layer


def side(name: str, value: Any) -> int:
    """The side of a square; `value` is a number or a pair of equal numbers."""
    height, width = (value, value) if isinstance(value, int) else value
    if height != width:
        raise BadInput(f"expected a square {name}; given {height}x{width}; build the design with the nearest square")
    return int(height)


def split_positions(found: dict[str, Tensor], leading: list[str], positions: str) -> dict[str, Tensor]:
    """Their tensors with the positions of leading tokens added to those tokens, as `first`, and the rest as `grid`."""
    found = dict(found)
    table = found.pop(positions)[0]
    first = torch.cat([found.pop(name)[0] for name in leading])
    return {**found, "first": first + table[: len(first)], "grid": table[len(first) :]}


def blocks_of(prefix: str, depth: int, bias: bool = True) -> list[Pair]:
    """The blocks of a Hugging Face vision encoder."""
    table: list[Pair] = []
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"{prefix}.{i}"
        own = f"{theirs}.attention"
        table += layer(f"{ours}.mixer.qkv", f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj", bias=bias)
        table += layer(f"{ours}.mixer.output", f"{own}.o_proj")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.layernorm_before")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.fc1")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.fc2")
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.layernorm_after")
    return table
