"""A computer of one instruction as the weights of a transformer in a loop (Giannou et al., Looped Transformers, 2023, section 5).

The instruction (a, b, c) subtracts word a from word b, and goes to c where the result is at most 0, else on. One token is
the scratchpad, with the place of the next instruction; each other one is an address, with a word and an instruction.
Addresses are codes of -1 and 1, words are bits in two's complement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.backbones import Block, Loop
from everyformer.errors import BadInput
from everyformer.feedforward import MLP
from everyformer.interpret.entries import Unit, put_head, put_units, zeroed
from everyformer.mixers import Attention
from everyformer.norms import Identity, PreNorm
from everyformer.registry import method
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens

Instruction = tuple[int, int, int]


def subleq(memory: Sequence[int], program: Sequence[Instruction], bits: int, at: int = 0) -> tuple[list[int], int]:
    """The memory after the instruction at place `at`, and the place of the next: the interpreter."""
    a, b, c = program[at]
    words, half = list(memory), 2 ** (bits - 1)
    words[b] = (words[b] - words[a] + half) % (2 * half) - half
    return words, c if words[b] <= 0 else (at + 1) % len(words)


class _Rows:
    """The directions of the stream by name; all but the first five are of the scratchpad, but for `coming` and `hit`."""

    def __init__(self, address: int, bits: int) -> None:
        self.width = 0
        (self.scratch,) = self._take(1)
        self.address, self.word = self._take(address), self._take(bits)
        self.instruction = self._take(3 * address)
        self.place, self.registers = self._take(address), self._take(3 * address)
        self.one, self.other, self.result = self._take(bits), self._take(bits), self._take(bits)
        self.coming, (self.hit,) = self._take(bits), self._take(1)
        (self.jumps,), self.next = self._take(1), self._take(address)
        self.a, self.b, self.c = (self.registers[i * address : (i + 1) * address] for i in range(3))

    def _take(self, count: int) -> list[int]:
        self.width += count
        return list(range(self.width - count, self.width))


def _step(reads: dict[int, float], bias: float, writes: dict[int, float]) -> list[Unit]:
    """1 where a sum of whole numbers is at least 0, else 0: exact within a quarter of either, so that no error is passed on."""
    double = {row: 2 * weight for row, weight in reads.items()}
    return [
        Unit(double, 2 * bias + 1.5, writes),
        Unit(double, 2 * bias + 0.5, {row: -weight for row, weight in writes.items()}),
    ]


def _bit(number: int, reads: dict[int, float], bias: float, most: int, result: int) -> list[Unit]:
    """Bit `number` of a whole number of 0 to `most`: it turns at each multiple of 2^number."""
    units, size = [], 2**number
    for half in range(1, most // size + 1):
        units += _step(reads, bias - half * size, {result: 1.0 if half % 2 else -1.0})
    return units


def _clear(rows: Sequence[int]) -> list[Unit]:
    return [Unit({row: sign}, 0, {row: -sign}) for row in rows for sign in (1.0, -1.0)]


def _subtract(rows: _Rows) -> list[Unit]:
    """Bit i is that of the difference of the bits up to i; 2^(i + 1) is added so that it is not below 0."""
    units = []
    for i, result in enumerate(rows.result):
        reads = {row: sign * 2.0**j for j in range(i + 1) for row, sign in ((rows.other[j], 1), (rows.one[j], -1))}
        units += _bit(i, reads, 2 ** (i + 1), 2 ** (i + 2) - 1, result)
    return units


def _merge(rows: _Rows) -> list[Unit]:
    """In the word that is hit what comes stands instead; in the scratchpad, whether to jump, and the place after this."""
    units = [Unit({rows.hit: 1}, 0, {rows.hit: -1})]
    for word, coming in zip(rows.word, rows.coming, strict=True):
        units += _step({coming: 1}, -1, {word: 1}) + _step({word: 1, rows.hit: 1}, -2, {word: -1})
        units.append(Unit({coming: 1}, 0, {coming: -1}))
    *low, sign = rows.result
    most = 2.0 * len(rows.result)
    units += _step({sign: most, **dict.fromkeys(low, -1.0), rows.scratch: most}, -most, {rows.jumps: 1})
    for i, result in enumerate(rows.next):
        reads, far = {row: 2.0 ** (j - 1) for j, row in enumerate(rows.place[: i + 1])}, 2.0 ** (i + 2)
        units += _bit(i, {**reads, rows.scratch: far + 2.0**i + 0.5}, -far, 2 ** (i + 1), result)
    return units


def _go(rows: _Rows) -> list[Unit]:
    """The place is that of the jump or the next one; all else of the scratchpad is as before."""
    units = _clear([*rows.place, *rows.registers, *rows.one, *rows.other, *rows.result, rows.jumps, *rows.next])
    units.append(Unit({rows.scratch: 1}, 0, dict.fromkeys(rows.place, -1.0)))
    for place, target, after in zip(rows.place, rows.c, rows.next, strict=True):
        units += _step({target: 0.5, rows.jumps: 1, rows.scratch: 0.5}, -2, {place: 2})
        units += _step({after: 1, rows.jumps: -1}, -1, {place: 2})
    return units


def _read(
    mixer: Attention, number: int, rows: _Rows, at: list[int], source: list[int], into: list[int], sharp: float
) -> None:
    """The scratchpad attends to the token whose address stands in `at`, the others to it, which has nothing there."""
    last = len(at)
    put_head(
        mixer,
        number,
        query={**dict.fromkeys(enumerate(at), sharp), (last, rows.scratch): -2 * sharp},
        bias={last: 2 * sharp},
        key={**dict.fromkeys(enumerate(rows.address), 1.0), (last, rows.scratch): 1.0},
        reads=dict(zip(source, into, strict=True)),
    )


def _write(mixer: Attention, rows: _Rows, sharp: float) -> None:
    """A token whose address stands in b attends to the scratchpad, any other to the words, which have nothing there."""
    last = len(rows.b)
    put_head(
        mixer,
        0,
        query=dict.fromkeys(enumerate(rows.address), 2 * sharp),
        bias={last: 2 * sharp},
        key={**dict.fromkeys(enumerate(rows.b), 1.0), (last, rows.scratch): 1.0 - last},
        reads=dict(zip([*rows.result, rows.scratch], [*rows.coming, rows.hit], strict=True)),
    )


@dataclass(frozen=True)
class Computer:
    """The loop, whose weights are the same for every program, and what its stream means."""

    loop: Loop
    cells: int
    bits: int
    rows: _Rows

    def load(self, memory: Sequence[int], program: Sequence[Instruction]) -> Float[Tensor, "1 N D"]:
        """The stream that begins a program; where no instruction is given, one clears the last word and stays."""
        half, last = 2 ** (self.bits - 1), self.cells - 1
        if len(memory) > self.cells or len(program) > self.cells or not all(-half <= word < half for word in memory):
            raise BadInput(
                f"expected at most {self.cells} words of {-half} to {half - 1} and as many instructions; given "
                f"{len(memory)} words, {list(memory)}, and {len(program)} instructions"
            )
        if not all(0 <= cell < self.cells for instruction in program for cell in instruction):
            raise BadInput(f"an instruction (a, b, c) holds three of the addresses 0 to {last}; given {list(program)}")
        stream = torch.zeros(1, self.cells + 1, self.rows.width)
        stream[0, 0, self.rows.scratch] = 1
        stream[0, 0, self.rows.place] = self._code([0])
        whole = [*program, *((last, last, i) for i in range(len(program), self.cells))]
        words = [*memory, *[0] * (self.cells - len(memory))]
        for cell, (word, instruction) in enumerate(zip(words, whole, strict=True), 1):
            stream[0, cell, self.rows.address] = self._code([cell - 1])
            stream[0, cell, self.rows.instruction] = self._code(instruction)
            stream[0, cell, self.rows.word] = _bits(word, self.bits)
        return stream

    @torch.no_grad()
    def run(self, stream: Float[Tensor, "1 N D"], turns: int) -> Float[Tensor, "1 N D"]:
        """The stream after so many instructions."""
        for _ in range(turns):
            stream = self.loop(Tokens(stream)).values
        return stream

    def memory(self, stream: Float[Tensor, "1 N D"]) -> list[int]:
        """The words."""
        signs = torch.tensor([2.0**i for i in range(self.bits - 1)] + [-(2.0 ** (self.bits - 1))])
        return [round(word) for word in (stream[0, 1:, self.rows.word] @ signs).tolist()]

    def place(self, stream: Float[Tensor, "1 N D"]) -> int:
        """The place of the next instruction."""
        return sum(2**i for i, bit in enumerate(stream[0, 0, self.rows.place].tolist()) if bit > 0)

    def _code(self, cells: Sequence[int]) -> Tensor:
        return torch.cat([2 * _bits(cell, len(self.rows.address)) - 1 for cell in cells])


def _bits(number: int, count: int) -> Tensor:
    return torch.tensor([float(number >> i & 1) for i in range(count)])


@method(
    "looped-transformer",
    title="Looped Transformers as Programmable Computers",
    authors="Giannou et al.",
    year=2023,
    arxiv="2301.13196",
    idea="The weights of few layers, set by hand, carry out one instruction at each turn of a loop; the program is in the input.",
)
@torch.no_grad()
def computer(cells: int, bits: int = 8, *, sharp: float = 100.0) -> Computer:
    """A computer of as many words and instructions as `cells`, a power of 2: four blocks, three of them with attention.

    `sharp` is how far a score that is meant lies above the others; from 100 on softmax in float32 is exact.
    """
    address = cells.bit_length() - 1
    if cells != 2**address or cells < 4 or bits < 2:
        raise BadInput(f"expected a power of 2 of at least 4 cells and at least 2 bits; given {cells} and {bits}")
    rows = _Rows(address, bits)
    heads = spec(Attention, head_width=max(3 * address, bits + 1), scale=1.0)
    parts: tuple[tuple[Spec[Attention] | None, list[Unit]], ...] = (
        (heads.but(heads=1), []),
        (heads.but(heads=2), _subtract(rows)),
        (heads.but(heads=1), _merge(rows)),
        (None, _go(rows)),
    )
    blocks = tuple(
        spec(
            Block,
            mixer=mixer,
            feedforward=spec(MLP, hidden=len(units), activation="relu") if units else None,
            residual=spec(PreNorm, norm=spec(Identity)),
        )
        for mixer, units in parts
    )
    loop: Loop = spec(Loop, blocks=blocks, times=1).build(rows.width)
    zeroed(loop)
    for block, (_, units) in zip(loop.blocks, parts, strict=True):
        put_units(block.feedforward, units)  # type: ignore[arg-type]
    fetch, operands, store, _ = (block.mixer for block in loop.blocks)
    _read(fetch, 0, rows, rows.place, rows.instruction, rows.registers, sharp)  # type: ignore[arg-type]
    _read(operands, 0, rows, rows.a, rows.word, rows.one, sharp)  # type: ignore[arg-type]
    _read(operands, 1, rows, rows.b, rows.word, rows.other, sharp)  # type: ignore[arg-type]
    _write(store, rows, sharp)  # type: ignore[arg-type]
    return Computer(loop.eval(), cells, bits, rows)
