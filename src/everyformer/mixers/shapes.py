"""What mixers with several heads share: heads apart, heads together, and where tokens stand."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from everyformer.context import Context, running_positions
from everyformer.tokens import Tokens


def split(x: Float[Tensor, "B N E"], heads: int) -> Float[Tensor, "B H N K"]:
    """Heads apart."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B N E"]:
    """Heads side by side again."""
    return x.transpose(1, 2).flatten(2)


def share(name: str, width: int, heads: int) -> int:
    """The width of one of `heads` equal heads; `name` says whose width it is."""
    if heads < 1:
        raise ValueError(f"heads is at least 1; given {heads}")
    if width % heads:
        raise ValueError(f"{name} {width} is not a multiple of heads {heads}; give other heads")
    return width // heads


def line(tokens: Tokens, context: Context) -> Shaped[Tensor, "#B N 1"]:
    """Where tokens stand on a line: their own positions, or, on a grid or without any, their order."""
    if tokens.positions is not None and tokens.positions.shape[-1] == 1:
        return tokens.positions
    return running_positions(tokens.mask, tokens.count, tokens.values.device, context)
