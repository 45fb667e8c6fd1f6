"""RASP programs as the weights of a transformer (Lindner et al., Tracr, 2023, section 3).

The stream has a direction of its own for each value that an operation can have. Attention adds the mean of what is
selected; the feedforward of the same block turns it, with what else a function reads, into the direction of the function's
value, by steps that are exactly 0 or 1. Before each sequence stands a token BOS: it is attended to where nothing is
selected, and counted with what is selected where that is to be counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import torch

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.errors import BadInput
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.interpret.entries import Weights, put, zeroed
from everyformer.interpret.rasp.language import (
    Aggregate,
    Elementwise,
    SelectorWidth,
    Sop,
    Value,
    indices,
    numeric,
    tokens,
)
from everyformer.mixers import Attention
from everyformer.models import Model
from everyformer.norms import Identity, PreNorm
from everyformer.positions import Learned
from everyformer.registry import method
from everyformer.specs import spec

_SHARP = 100.0
"""The score of a selected key; others have 0, so that in float32 nothing of them is left after softmax."""
_BOS = 0
"""The direction of the token BOS, and its id."""
_STEEP = 4.0
"""How far a step's argument lies from its middle on either side, times two; 1 would do without rounding."""


@dataclass(frozen=True)
class Column:
    """Directions `start`, `start` + 1, ... of the stream, one for each value in `domain`, there after block `level`."""

    start: int
    domain: tuple[Value, ...]
    level: int

    def of(self, value: Value) -> int:
        """The direction of a value."""
        return self.start + self.domain.index(value)


@dataclass(frozen=True)
class Number:
    """A direction with a mean that attention has added in block `level`; each value that it can stand for, and its size."""

    direction: int
    sizes: dict[Value, float]
    level: int


@dataclass
class _Head:
    keys: Column
    queries: Column
    fits: list[list[bool]]
    """For each query value, for each key value."""
    bos: float
    """The share of a selected key's score that BOS has."""
    values: Weights = field(default_factory=dict)
    """From a direction of the stream that is read to one that is written."""


@dataclass
class _Unit:
    """step(sum of directions x weights + bias), 0 or 1, times what it adds to the stream."""

    reads: dict[int, float]
    bias: float
    writes: dict[int, float]


@dataclass
class _Layer:
    heads: dict[tuple[object, ...], _Head] = field(default_factory=dict)
    units: list[_Unit] = field(default_factory=list)


class _Plan:
    """Which directions the stream has, and what each block reads and writes."""

    def __init__(self, vocabulary: Sequence[Value], length: int) -> None:
        self.given = {tokens: tuple(vocabulary), indices: tuple(range(length))}
        self.tables: dict[Sop, Weights] = {tokens: {}, indices: {}}
        """What the embedding writes for each token, and for each index."""
        self.length, self.width = length, 1
        self.layers: list[_Layer] = []
        self.columns: dict[Sop, Column] = {}
        self.attended: dict[Sop, Column | Number] = {}

    def layer(self, level: int) -> _Layer:
        """Block `level`, counted from 1."""
        self.layers += [_Layer() for _ in range(level - len(self.layers))]
        return self.layers[level - 1]

    def allot(self, count: int) -> int:
        """The first of so many new directions."""
        self.width += count
        return self.width - count

    def column(self, sop: Sop) -> Column:
        """The directions of an operation's values."""
        if sop not in self.columns:
            sources = _sources(sop)
            only = next(iter(sources)) if len(sources) == 1 else None
            self.columns[sop] = self._embedded(sop, only) if only in self.given else self._computed(sop)
        return self.columns[sop]

    def _embedded(self, sop: Sop, only: Sop) -> Column:
        """A function of the token alone, or of the index alone, is written by the embedding."""
        said = [sop.at({only: value}) for value in self.given[only]]
        domain = _distinct(said)
        made = Column(self.allot(len(domain)), domain, 0)
        self.tables[only] |= {(number, made.of(value)): 1.0 for number, value in enumerate(said, 1)}
        return made

    def attend(self, sop: Aggregate | SelectorWidth) -> Column | Number:
        """The head of an operation's selector, and where it writes; heads of the same selector are one."""
        if sop not in self.attended:
            self.attended[sop] = self._attend(sop)
        return self.attended[sop]

    def _attend(self, sop: Aggregate | SelectorWidth) -> Column | Number:
        keys, queries = self.column(sop.selector.keys), self.column(sop.selector.queries)
        values = self.column(sop.values) if isinstance(sop, Aggregate) else None
        level = 1 + max(each.level for each in (keys, queries, values) if each is not None)
        counts = values is None
        head = self.layer(level).heads.setdefault(
            (keys.start, queries.start, sop.selector.predicate, counts),
            _Head(
                keys,
                queries,
                [[bool(sop.selector.predicate(key, query)) for key in keys.domain] for query in queries.domain],
                bos=1.0 if counts else 0.5,
            ),
        )
        if not isinstance(sop, Aggregate) or values is None:
            made = Number(self.allot(1), {count: 1 / (1 + count) for count in range(self.length + 1)}, level)
            head.values[_BOS, made.direction] = 1.0
            return made
        if not numeric([*values.domain, sop.default]):
            domain = _distinct([*values.domain, sop.default])
            copied = Column(self.allot(len(domain)), domain, level)
            head.values |= {(values.of(value), copied.of(value)): 1.0 for value in values.domain}
            head.values[_BOS, copied.of(sop.default)] = 1.0
            return copied
        means = {*_means(values.domain, self.length), Fraction(sop.default)}
        mean = Number(self.allot(1), {each: float(each) for each in means}, level)
        head.values |= {(values.of(value), mean.direction): float(value) for value in values.domain}
        head.values[_BOS, mean.direction] = float(sop.default)
        return mean

    def _computed(self, sop: Sop) -> Column:
        """A function of several operations is computed by the feedforward of the first block in which all are there.

        It reads one number; others it reads as columns, which are there one block later.
        """
        level = self._level(sop)
        known: dict[Sop, Column] = {}
        number: tuple[Sop, Number] | None = None
        for source in self._cut(sop, level):
            found = self.attend(source) if isinstance(source, (Aggregate, SelectorWidth)) else None
            if found is None or found.level < level or (isinstance(found, Number) and number is not None):
                known[source] = self.column(source)
            elif isinstance(found, Number):
                number = source, found
            else:
                known[source] = found
        late = [each.level + 1 for source, each in known.items() if each is self.columns.get(source)]
        level = max(level, *late) if late else level
        return self._tabulated(sop, known, number, level)

    def _level(self, sop: Sop) -> int:
        """The first block after whose attention everything that it reads is in the stream, in one form or another."""
        heads = [self.attend(s).level for s in _sources(sop) if isinstance(s, (Aggregate, SelectorWidth))]
        return max(heads, default=1)

    def _cut(self, sop: Sop, level: int) -> list[Sop]:
        """What a function reads: the functions inside it that are there by then, and not what those read in turn."""
        if not isinstance(sop, Elementwise) or len(_sources(sop) & self.given.keys()) == len(_sources(sop)) == 1:
            return [sop]
        inner = [self._cut(each, level) if self._level(each) == level else [each] for each in sop.inputs]
        return [*dict.fromkeys(itertools.chain(*inner))]

    def _tabulated(self, sop: Sop, known: dict[Sop, Column], number: tuple[Sop, Number] | None, level: int) -> Column:
        """A step for each combination of values, and for each size of the number at which the function changes."""
        sizes = {} if number is None else number[1].sizes
        steps = sorted(sizes, key=sizes.__getitem__)
        gaps = [sizes[b] - sizes[a] for a, b in itertools.pairwise(steps)]
        least = _STEEP / min(gaps, default=1.0)
        far = least * (sizes[steps[-1]] - sizes[steps[0]] if steps else 0.0) + _STEEP
        rows = []
        for values in itertools.product(*(each.domain for each in known.values())):
            met = dict(zip(known, values, strict=True))
            said = [sop.at(met if number is None else {**met, number[0]: step}) for step in steps or [None]]
            rows.append(([each.of(value) for each, value in zip(known.values(), values, strict=True)], said))
        domain = _distinct(itertools.chain(*(said for _, said in rows)))
        made = Column(self.allot(len(domain)), domain, level)
        for directions, said in rows:
            count = len(directions)
            at_all = _Unit(dict.fromkeys(directions, _STEEP), _STEEP * (0.5 - count), {made.of(said[0]): 1.0})
            self.add(level, at_all, _STEEP * (count + 1))
            for i, gap in enumerate(gaps):
                if said[i + 1] == said[i]:
                    continue
                assert number is not None
                steep, middle = _STEEP / gap, (sizes[steps[i]] + sizes[steps[i + 1]]) / 2
                reads = {**dict.fromkeys(directions, far), number[1].direction: steep}
                writes = {made.of(said[i + 1]): 1.0, made.of(said[i]): -1.0}
                self.add(level, _Unit(reads, -steep * middle - far * count, writes), far * (count + 2))
        return made

    def add(self, level: int, unit: _Unit, most: float) -> None:
        """A unit that is silent at BOS; its argument is nowhere above `most`."""
        unit.reads[_BOS] = -most
        self.layer(level).units.append(unit)


def _distinct(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))


def _sources(sop: Sop) -> set[Sop]:
    """What a chain of elementwise functions begins with."""
    return set().union(*map(_sources, sop.inputs)) if isinstance(sop, Elementwise) else {sop}


def _means(values: Iterable[Value], most: int) -> set[Fraction]:
    """The means of up to `most` of some numbers."""
    numbers = {Fraction(each) for each in values}
    sums, found = {Fraction(0)}, set()
    for count in range(1, most + 1):
        sums = {total + each for total in sums for each in numbers}
        found |= {total / count for total in sums}
    return found


def _design(plan: _Plan, answers: int) -> Design:
    """The transformer that a plan needs."""
    blocks = []
    for layer in plan.layers:
        heads = layer.heads.values()
        widest = max((max(len(head.keys.domain) + 1, len(_written(head))) for head in heads), default=0)
        mixer = spec(Attention, heads=len(heads), head_width=widest, output_bias=False, scale=1.0)
        mlp = spec(MLP, hidden=2 * len(layer.units), activation="relu")
        blocks.append(
            spec(
                Block,
                mixer=mixer if heads else None,
                feedforward=mlp if layer.units else None,
                residual=spec(PreNorm, norm=spec(Identity)),
            )
        )
    positions = spec(Learned, length=plan.length + 1)
    return Design(
        spec(
            Model,
            width=plan.width,
            embedding=spec(Text, vocabulary=len(plan.given[tokens]) + 1, positions=positions),
            backbone=spec(Encoder, blocks=tuple(blocks)),
            head=spec(TokenHead, vocabulary=answers),
        ),
        name="rasp",
    )


def _written(head: _Head) -> list[int]:
    """The directions that a head writes."""
    return sorted({direction for _, direction in head.values})


@torch.no_grad()
def _write(model: Model, plan: _Plan, answer: Column) -> None:
    """Set every weight."""
    zeroed(model)
    embedding = model.embedding
    put(embedding.table.weight, {**plan.tables[tokens], (_BOS, _BOS): 1.0})  # type: ignore[arg-type]
    put(embedding.positions.table.weight, plan.tables[indices])  # type: ignore[union-attr, arg-type]
    for block, layer in zip(model.backbone.blocks, plan.layers, strict=True):  # type: ignore[arg-type]
        for number, head in enumerate(layer.heads.values()):
            _write_head(block.mixer, number, head)
        for number, unit in enumerate(layer.units):
            for side in (0, 1):
                row = 2 * number + side
                put(block.feedforward.up.weight, {(row, direction): w for direction, w in unit.reads.items()})
                block.feedforward.up.bias[row] = unit.bias - side
                sign = 1 - 2 * side
                put(block.feedforward.down.weight, {(d, row): sign * w for d, w in unit.writes.items()})
    put(model.head.project.weight, {(i, answer.start + i): 1.0 for i in range(len(answer.domain))})  # type: ignore


def _write_head(mixer: Attention, number: int, head: _Head) -> None:
    """A key has the direction of its value, a query those that fit it, times the score; one more of each is BOS's."""
    first = number * mixer.head_width
    query, key, value = mixer.qkv.weight.split(mixer.sizes)
    fits = enumerate(head.fits)
    put(query, {(first + k, head.queries.start + q): _SHARP for q, row in fits for k, fit in enumerate(row) if fit})
    last = len(head.keys.domain)
    mixer.qkv.bias[first + last] = _SHARP * head.bos
    put(key, {(first + k, head.keys.start + k): 1.0 for k in range(last)} | {(first + last, _BOS): 1.0})
    written = {direction: first + i for i, direction in enumerate(_written(head))}
    put(value, {(written[there], here): weight for (here, there), weight in head.values.items()})
    put(mixer.output.weight, dict.fromkeys(written.items(), 1.0))


@dataclass(frozen=True)
class Compiled:
    """A program as a transformer: called with a sequence it gives what the interpreter gives."""

    model: Model
    vocabulary: tuple[Value, ...]
    answers: tuple[Value, ...]
    """What the outputs of the model stand for."""
    length: int

    def __call__(self, sequence: Sequence[Value]) -> list[Value]:
        """The program's values for a sequence."""
        return self.batch([sequence])[0]

    @torch.no_grad()
    def batch(self, sequences: Sequence[Sequence[Value]]) -> list[list[Value]]:
        """The program's values for sequences of any lengths, in one pass."""
        longest = max(map(len, sequences), default=0)
        if longest > self.length:
            raise BadInput(f"a sequence of {longest} tokens, compiled for {self.length}; compile with length={longest}")
        number = {token: i for i, token in enumerate(self.vocabulary, 1)}
        strange = {token for sequence in sequences for token in sequence} - number.keys()
        if strange:
            raise BadInput(f"tokens {sorted(map(str, strange))} are not of the vocabulary {[*self.vocabulary]}")
        rows = [[_BOS, *(number[token] for token in sequence)] for sequence in sequences]
        ids = torch.tensor([row + [_BOS] * (longest + 1 - len(row)) for row in rows])
        mask = torch.arange(longest + 1) < torch.tensor([[len(row)] for row in rows])
        best = self.model(ids, mask=mask).argmax(-1).tolist()
        return [[self.answers[i] for i in row[1 : len(ids)]] for row, ids in zip(best, rows, strict=True)]


@method(
    "rasp",
    title="Thinking Like Transformers",
    authors="Weiss et al.",
    year=2021,
    arxiv="2106.06981",
    idea="A language whose steps are what attention and feedforwards do; its programs become the weights of a transformer.",
)
def compile_program(program: Sop, vocabulary: Iterable[Value], length: int) -> Compiled:
    """A transformer of our parts whose weights compute the program on sequences of up to `length` tokens."""
    known = _distinct(vocabulary)
    if not known or length < 1:
        raise BadInput(f"a program is compiled for some tokens and a length of at least 1; given {known}, {length}")
    plan = _Plan(known, length)
    answer = plan.column(program)
    model: Model = _design(plan, len(answer.domain)).build()
    _write(model, plan, answer)
    return Compiled(model.eval(), known, answer.domain, length)
