"""Caches in few bits: keys rounded channel by channel, values token by token."""

from __future__ import annotations

import copy
from typing import Self

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from everyformer.columns import Columns, Storage, take
from everyformer.errors import BadInput, DoesNotFit
from everyformer.registry import method, part

BITS = (2, 4, 8)


def pack(codes: UInt8[Tensor, "*n K"], bits: int) -> UInt8[Tensor, "*n k"]:
    """Several codes in each byte."""
    shifts = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    return (codes.unflatten(-1, (-1, 8 // bits)) << shifts).sum(-1, dtype=torch.uint8)


def unpack(packed: UInt8[Tensor, "*n k"], bits: int) -> UInt8[Tensor, "*n K"]:
    """The codes again."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> shifts) & (2**bits - 1)).flatten(-2)


def rounded(x: Float[Tensor, "..."], dim: int, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of `x` between its least and its largest value along `dim`, the step between codes, and the least value."""
    least = x.amin(dim, keepdim=True)
    step = ((x.amax(dim, keepdim=True) - least) / (2**bits - 1)).clamp(min=torch.finfo(x.dtype).tiny)
    return ((x - least) / step).clamp(0, 2**bits - 1).round().to(torch.uint8), step, least


class Quantised(Columns):
    """Base of columns in few bits; the last ones that came stand beside them as they are.

    Each token is known by its number, so that tokens may be dropped, by sequence and by head, while what goes by number
    stays where it is.
    """

    def __init__(self, first: Float[Tensor, "B H M K"], bits: int, group: int, residual: int) -> None:
        self.bits, self.group, self.residual = bits, group, residual
        self.total = 0
        self.numbers: Columns | None = None
        """(B, #H, M, 1): the number of each token held; None while none was dropped: 0, 1, 2, ..."""
        self.parts: dict[str, Columns] = {}
        """What is held of each token."""
        self.exact = first[:, :, :0]
        """(B, H, R, K): the tokens that came last."""
        self.add(first)
        self.settle()

    def coded(self, new: Float[Tensor, "B H N K"]) -> dict[str, Shaped[Tensor, "B H N k"]]:
        """What is held of each of the new tokens."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let go of what is old among those that stand as they are."""
        raise NotImplementedError

    def coarse(self) -> Float[Tensor, "B H M K"]:
        """The tokens from few bits; those that stand as they are may be anything, and need not be there at the end."""
        raise NotImplementedError

    def add(self, new: Float[Tensor, "B H N K"]) -> None:
        """Take tokens in, which stand as they are at first."""
        count = new.shape[2]
        if self.numbers is not None:
            numbers = torch.arange(self.total, self.total + count, device=new.device)[:, None]
            self.numbers.append(numbers.expand(*self.numbers.held.shape[:2], -1, -1))
        for name, value in self.coded(new).items():
            if name in self.parts:
                self.parts[name].append(value)
            else:
                self.parts[name] = Columns(value)
        self.exact = torch.cat((self.exact, new), 2)
        self.total += count

    def append(self, new: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H M K"]:
        """Add columns, and give the whole."""
        self.add(new)
        whole = self.whole()
        self.settle()
        return whole

    def whole(self) -> Float[Tensor, "B H M K"]:
        """All of it."""
        values, recent = self.coarse(), self.exact.shape[2]
        if self.numbers is None:
            return torch.cat((values[:, :, : self.total - recent], self.exact), 2)
        if not recent:
            return values
        behind = self.numbers.held[..., 0] - (self.total - recent)
        return torch.where(behind[..., None] >= 0, take(self.exact, behind.clamp(min=0)), values)

    def take(self, columns: Int[Tensor, "..."]) -> None:
        """Keep some columns."""
        for each in self.by_number():
            each.take(columns)

    def cut(self, count: int) -> None:
        """Keep the first `count`."""
        for each in self.by_number():
            each.cut(count)

    def by_number(self) -> list[Columns]:
        """What is held of each token, and from now on its number."""
        if self.numbers is None:
            numbers = torch.arange(self.total, device=self.exact.device)[:, None]
            self.numbers = Columns(numbers.expand(len(self.exact), 1, -1, 1))
        return [self.numbers, *self.parts.values()]

    def pick(self, rows: Int[Tensor, " R"]) -> None:
        """Keep, repeat and reorder sequences."""
        for each in (*self.parts.values(), *([] if self.numbers is None else [self.numbers])):
            each.pick(rows)
        self.exact = self.exact.index_select(0, rows)

    def put(self, values: Shaped[Tensor, "B H M K"]) -> None:
        """Refused: what is in few bits would be rounded again."""
        raise DoesNotFit("a cache in few bits cannot be exchanged", "storage")

    def fork(self) -> Self:
        """The same again, to grow by itself."""
        made = copy.copy(self)
        made.parts = {name: each.fork() for name, each in self.parts.items()}
        made.numbers = None if self.numbers is None else self.numbers.fork()
        return made

    @property
    def bytes(self) -> int:
        """Codes, steps, least values and numbers, and the tokens that stand as they are."""
        held = [*self.parts.values(), *([] if self.numbers is None else [self.numbers])]
        return sum(each.bytes for each in held) + self.exact.nbytes


class ByToken(Quantised):
    """Each token by itself, in groups of `group` channels; the last `residual` tokens stand as they are."""

    def coded(self, new: Float[Tensor, "B H N K"]) -> dict[str, Shaped[Tensor, "B H N k"]]:
        """Codes, steps and least values of the groups."""
        codes, step, least = rounded(new.unflatten(-1, (-1, self.group)), -1, self.bits)
        return {"codes": pack(codes.flatten(-2), self.bits), "step": step[..., 0], "least": least[..., 0]}

    def settle(self) -> None:
        """The last ones stay."""
        self.exact = self.exact[:, :, max(0, self.exact.shape[2] - self.residual) :]

    def coarse(self) -> Float[Tensor, "B H M K"]:
        """Code times step, and the least value."""
        codes, step, least = (self.parts[name].held for name in ("codes", "step", "least"))
        values = unpack(codes, self.bits).unflatten(-1, (-1, self.group))
        return torch.addcmul(least[..., None], values.to(step.dtype), step[..., None]).flatten(-2)


class ByChannel(Quantised):
    """Each channel in groups of `group` tokens, rounded together once `residual` tokens are there; the rest stand as they are."""

    def __init__(self, first: Float[Tensor, "B H M K"], bits: int, group: int, residual: int) -> None:
        self.step = self.least = first[:, :, :0]
        super().__init__(first, bits, group, residual)

    def coded(self, new: Float[Tensor, "B H N K"]) -> dict[str, Shaped[Tensor, "B H N k"]]:
        """Room for codes to come."""
        return {"codes": new.new_zeros(*new.shape[:3], new.shape[3] * self.bits // 8, dtype=torch.uint8)}

    def settle(self) -> None:
        """Round as many as make whole pieces of `residual`."""
        count = self.exact.shape[2] // self.residual * self.residual
        if not count:
            return
        codes, step, least = rounded(self.exact[:, :, :count].unflatten(2, (-1, self.group)), 3, self.bits)
        codes = pack(codes.flatten(2, 3), self.bits)
        first = self.total - self.exact.shape[2]
        held = self.parts["codes"]
        if self.numbers is None:
            held.held[:, :, first : first + count] = codes
        else:
            at = self.numbers.held[..., 0] - first
            fresh = take(codes, at.clamp(0, count - 1))
            held.put(torch.where(((at >= 0) & (at < count))[..., None], fresh, held.held))
        self.step, self.least = (
            torch.cat((self.step, step[:, :, :, 0]), 2),
            torch.cat((self.least, least[:, :, :, 0]), 2),
        )
        self.exact = self.exact[:, :, count:]

    def coarse(self) -> Float[Tensor, "B H M K"]:
        """Code times the step of the token's group, and its least value."""
        codes, groups = self.parts["codes"].held, self.step.shape[2]
        if self.numbers is None:
            codes = codes[:, :, : groups * self.group]
            step, least = (each.repeat_interleave(self.group, 2) for each in (self.step, self.least))
        elif groups:
            group = (self.numbers.held[..., 0] // self.group).clamp(max=groups - 1)
            step, least = take(self.step, group), take(self.least, group)
        else:
            return unpack(codes, self.bits).to(self.step.dtype)
        return torch.addcmul(least, unpack(codes, self.bits).to(step.dtype), step)

    def pick(self, rows: Int[Tensor, " R"]) -> None:
        """Keep, repeat and reorder sequences."""
        super().pick(rows)
        self.step, self.least = self.step.index_select(0, rows), self.least.index_select(0, rows)

    @property
    def bytes(self) -> int:
        """Those of the groups besides."""
        return super().bytes + 2 * self.step.nbytes


@part("generation")
class KIVI(Storage):
    """Keys rounded by channel and values by token to 2, 4 or 8 bits (Liu et al., KIVI, 2024, section 3.3, algorithm 1).

    Groups are of `group` tokens or channels, at most a head; the last `residual` tokens stand as they are, a multiple of
    `group`. A prompt is attended to as it is.
    """

    moves = False

    def __init__(self, *, bits: int = 2, group: int = 32, residual: int = 128) -> None:
        super().__init__()
        if bits not in BITS:
            raise BadInput(f"bits is {bits}; give one of {BITS}")
        if group < 1 or residual < 1 or residual % group:
            raise BadInput(f"residual {residual} is a multiple of group {group}, both at least 1")
        self.bits, self.group, self.residual = bits, group, residual

    def hold(self, name: str, first: Shaped[Tensor, "B H M K"]) -> Columns:
        """Keys and values in few bits, all else as it is."""
        if name == "key":
            self.check(first.shape[-1])
            return ByChannel(first, self.bits, self.group, self.residual)
        if name == "value":
            self.check(first.shape[-1])
            return ByToken(first, self.bits, min(self.group, first.shape[-1]), self.residual)
        return super().hold(name, first)

    def check(self, width: int) -> None:
        """Refuse heads whose codes fill no whole bytes or groups."""
        if width * self.bits % 8 or width % min(self.group, width):
            raise DoesNotFit(
                f"a head of {width} channels fills no whole bytes at {self.bits} bits, or no groups of {self.group}",
                "storage",
            )


@method(
    "kivi",
    title="KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
    authors="Liu et al.",
    year=2024,
    arxiv="2402.02750",
    idea="Keys have channels that stand out, values do not: round keys by channel and values by token, to two bits.",
)
def kivi(*, bits: int = 2, group: int = 32, residual: int = 128) -> KIVI:
    """The storage, for `generate(model, ..., storage=kivi())`: see `KIVI`."""
    return KIVI(bits=bits, group=group, residual=residual)
