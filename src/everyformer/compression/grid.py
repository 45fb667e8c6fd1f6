"""Even grids that numbers are rounded to, and what a weight is rounded to group by group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput

Group = int | str
"""Which weights share a scale: 'tensor' all, 'channel' those of an output, a number that many neighbours of an output."""


@dataclass(frozen=True)
class Grid:
    """The values (code - zero) * scale of whole codes of some bits (Jacob et al., 2018, equation 1).

    Codes are 0 to 2^b - 1, or where there is no zero -(2^(b-1) - 1) to 2^(b-1) - 1, so that a value and its opposite are
    both there. `scale` and `zero` have any shape that fits what is rounded.
    """

    scale: Tensor
    zero: Tensor | None
    bits: int

    @classmethod
    def between(cls, low: Tensor, high: Tensor, bits: int, *, symmetric: bool = False) -> Grid:
        """The grid from `low` to `high`, and 0 on it."""
        low, high = low.clamp(max=0), high.clamp(min=0)
        if symmetric:
            reach = torch.maximum(-low, high)
            return cls(_some(reach / (2 ** (bits - 1) - 1)), None, bits)
        scale = _some((high - low) / (2**bits - 1))
        return cls(scale, (-low / scale).round(), bits)

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest code."""
        most = 2 ** (self.bits - 1) - 1
        return (-most, most) if self.zero is None else (0, 2**self.bits - 1)

    def codes(self, values: Tensor) -> Tensor:
        """The code of each value, whole numbers in floating point."""
        codes = (values / self.scale).round()
        return (codes if self.zero is None else codes + self.zero).clamp(*self.ends)

    def values(self, codes: Tensor) -> Tensor:
        """The value of each code."""
        codes = codes.to(self.scale.dtype)
        return (codes if self.zero is None else codes - self.zero.to(codes.dtype)) * self.scale

    def round(self, values: Tensor) -> Tensor:
        """Each value as the nearest one on the grid."""
        return self.values(self.codes(values))

    def column(self, at: int, group: Group) -> Grid:
        """Of a grid of groups (E, G) what column `at` of the weight is rounded to."""
        index = 0 if isinstance(group, str) else at // group
        return Grid(self.scale[:, index], None if self.zero is None else self.zero[:, index], self.bits)

    def put(self, other: Grid) -> None:
        """Become another grid of the same shape, in place."""
        self.scale.copy_(other.scale)
        if self.zero is not None and other.zero is not None:
            self.zero.copy_(other.zero)

    def of_groups(self, codes: Tensor, group: Group) -> Float[Tensor, "E D"]:
        """The value of each code of a weight (E, D), this being the grid of its groups."""
        if isinstance(group, str) or codes.shape[1] % group:
            return self.columns(group, codes.shape[1]).values(codes)
        wide = Grid(self.scale[..., None], None if self.zero is None else self.zero[..., None], self.bits)
        return wide.values(codes.unflatten(1, (-1, group))).flatten(1)

    def columns(self, group: Group, inputs: int) -> Grid:
        """A grid of groups (E, G) as one of single weights (E, D)."""
        if isinstance(group, str):
            return self
        spread = [
            None if each is None else each.repeat_interleave(group, 1)[:, :inputs] for each in (self.scale, self.zero)
        ]
        return Grid(spread[0], spread[1], self.bits)  # type: ignore[arg-type]


def _some(scale: Tensor) -> Tensor:
    """A scale of 1 where all is zero."""
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def count_groups(group: Group, inputs: int, outputs: int) -> tuple[int, int]:
    """How many scales a weight has: (1, 1), (outputs, 1) or (outputs, groups)."""
    if group == "tensor":
        return 1, 1
    return outputs, 1 if isinstance(group, str) else -(-inputs // group)


def fit(weight: Float[Tensor, "E D"], bits: int, group: Group, *, symmetric: bool = False) -> Grid:
    """The grid of a weight, (E, G), from its least and largest values; the last group may be short."""
    if group == "tensor":
        return Grid.between(weight.min()[None, None], weight.max()[None, None], bits, symmetric=symmetric)
    if isinstance(group, int):
        missing = -weight.shape[1] % group
        weight = torch.nn.functional.pad(weight, (0, missing)).unflatten(1, (-1, group))
    else:
        weight = weight[:, None]
    return Grid.between(weight.amin(-1), weight.amax(-1), bits, symmetric=symmetric)


def check(bits: int, group: Group = "channel") -> None:
    """Refuse bits and groups that there are not."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise BadInput(f"a weight is rounded to 2 to 16 bits; given bits={bits}")
    if group not in ("tensor", "channel") and (isinstance(group, str) or group < 1):
        raise BadInput(f"a scale is shared by 'tensor', 'channel' or a number of inputs; given group={group!r}")


def widths(bits: int) -> list[int]:
    """How a code is cut so that its pieces fill bytes: 4 is [4], 3 is [2, 1], 11 is [8, 2, 1]."""
    return [8] * (bits // 8) + [width for width in (4, 2, 1) if bits % 8 & width]


def bytes_of(bits: int, count: int) -> int:
    """The bytes that `pack` makes of a row of `count` codes."""
    return sum(-(-count * width // 8) for width in widths(bits))


def pack(codes: Int[Tensor, "E D"], bits: int) -> Int[Tensor, "E Y"]:
    """Codes as bytes, each row by itself; negative ones in two's complement."""
    codes, packed, low = codes.to(torch.int32), [], 0
    for width in widths(bits):
        each = 8 // width
        piece = (codes >> low) & (2**width - 1)
        piece = torch.nn.functional.pad(piece, (0, -codes.shape[1] % each)).unflatten(1, (-1, each))
        packed.append((piece << torch.arange(0, 8, width, device=codes.device)).sum(-1).to(torch.uint8))
        low += width
    return torch.cat(packed, 1)


def unpack(packed: Int[Tensor, "E Y"], bits: int, count: int, *, signed: bool = False) -> Int[Tensor, "E D"]:
    """What `pack` was given."""
    if bits == 8:
        return packed.view(torch.int8) if signed else packed
    codes: Tensor | int = 0
    start = low = 0
    for width in widths(bits):
        end = start + -(-count * width // 8)
        piece = packed[:, start:end]
        part = torch.nn.functional.embedding(piece.int(), _cut(width, packed.device)).flatten(1)[:, :count]
        codes = part if width == bits else codes + part.to(torch.int32) * 2**low
        start, low = end, low + width
    return torch.where(codes < 2 ** (bits - 1), codes, codes.to(torch.int32) - 2**bits) if signed else codes  # type: ignore


def _cut(width: int, device: torch.device) -> Int[Tensor, "256 W"]:
    """Every byte as its pieces of so many bits; looked up, because ONNX has no shifts of bytes."""
    places = 2 ** torch.arange(0, 8, width, device=device)
    return (torch.arange(256, device=device)[:, None] // places % 2**width).to(torch.uint8)
