"""RASP: programs made of what attention and feedforwards can do, and their interpreter (Weiss et al., Thinking Like
Transformers, 2021, section 3). Numbers are exact: a mean is a `fractions.Fraction`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import Any

from everyformer.errors import BadInput

Value = Any
"""What stands at one place: a token, a number, a truth value, or a tuple of such; anything that can be hashed."""


@dataclass(frozen=True, eq=False)
class Sop:
    """A sequence operation: from the tokens of a sequence to as many values (section 3)."""

    @property
    def inputs(self) -> tuple[Sop, ...]:
        """The operations that it is made of."""
        return ()

    def at(self, known: Mapping[Sop, Value]) -> Value:
        """Its value at a place where those of some operations are known."""
        return known[self]

    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        """Its values for a sequence, where those of its inputs are known."""
        raise NotImplementedError


class _Tokens(Sop):
    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        return list(sequence)


class _Indices(Sop):
    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        return list(range(len(sequence)))


tokens: Sop = _Tokens()
"""The tokens themselves."""
indices: Sop = _Indices()
"""0, 1, 2, ..."""


@dataclass(frozen=True, eq=False)
class Elementwise(Sop):
    """A function of the values of some operations at the same place: what a feedforward does."""

    function: Callable[..., Value]
    of: tuple[Sop, ...]

    @property
    def inputs(self) -> tuple[Sop, ...]:
        """What the function reads."""
        return self.of

    def at(self, known: Mapping[Sop, Value]) -> Value:
        """The function of what is known, through the functions that it reads."""
        return known[self] if self in known else self.function(*(each.at(known) for each in self.of))

    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        """The function, place by place."""
        return [self.function(*values) for values in zip(*(before[each] for each in self.of), strict=True)]


@dataclass(frozen=True, eq=False)
class Selector:
    """Which places each place looks at: `predicate(key, query)` of a value there and one here."""

    keys: Sop
    queries: Sop
    predicate: Callable[[Value, Value], bool]

    def __and__(self, other: Selector) -> Selector:
        return self._joined(other, operator.and_)

    def __or__(self, other: Selector) -> Selector:
        return self._joined(other, operator.or_)

    def __invert__(self) -> Selector:
        return Selector(self.keys, self.queries, lambda key, query: not self.predicate(key, query))

    def _joined(self, other: Selector, how: Callable[[bool, bool], bool]) -> Selector:
        """A selector of pairs of values, which attention can hold as it holds any other."""
        return Selector(
            pair(self.keys, other.keys),
            pair(self.queries, other.queries),
            lambda key, query: how(self.predicate(key[0], query[0]), other.predicate(key[1], query[1])),
        )

    def rows(self, before: Mapping[Sop, Sequence[Value]]) -> Iterator[list[int]]:
        """The places that are selected, for each place."""
        keys = before[self.keys]
        for query in before[self.queries]:
            yield [place for place, key in enumerate(keys) if self.predicate(key, query)]


@dataclass(frozen=True, eq=False)
class Aggregate(Sop):
    """At each place the mean of the values at the selected ones, `default` where none is.

    Where they or the default are no numbers, the values are symbols, of which one alone may be selected.
    """

    selector: Selector
    values: Sop
    default: Value

    @property
    def inputs(self) -> tuple[Sop, ...]:
        """Keys, queries and values."""
        return self.selector.keys, self.selector.queries, self.values

    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        """The mean of each row that is selected."""
        values = before[self.values]
        return [self._mean([values[place] for place in row]) for row in self.selector.rows(before)]

    def _mean(self, chosen: list[Value]) -> Value:
        if not chosen:
            return self.default
        if len(set(chosen)) == 1:
            return chosen[0]
        if not numeric([*chosen, self.default]):
            raise BadInput(f"several symbols are selected and have no mean: {chosen}; select one, or aggregate numbers")
        return sum(map(Fraction, chosen)) / len(chosen)


@dataclass(frozen=True, eq=False)
class SelectorWidth(Sop):
    """How many places each place selects."""

    selector: Selector

    @property
    def inputs(self) -> tuple[Sop, ...]:
        """Keys and queries."""
        return self.selector.keys, self.selector.queries

    def over(self, sequence: Sequence[Value], before: Mapping[Sop, Sequence[Value]]) -> list[Value]:
        """The size of each row that is selected."""
        return [len(row) for row in self.selector.rows(before)]


def numeric(values: Iterable[Value]) -> bool:
    """Whether all are numbers; truth values count as 0 and 1."""
    return all(isinstance(each, Rational) for each in values)


def elementwise(function: Callable[..., Value], first: Sop, *others: Sop) -> Sop:
    """`function` of the values at each place."""
    return Elementwise(function, (first, *others))


def pair(one: Sop, other: Sop) -> Sop:
    """Both values at each place."""
    return elementwise(lambda *both: both, one, other)


def select(keys: Sop, queries: Sop, predicate: Callable[[Value, Value], bool]) -> Selector:
    """Each place selects those whose key fits its query; selectors are joined by `&`, `|` and `~`."""
    return Selector(keys, queries, predicate)


def aggregate(selector: Selector, values: Sop, default: Value = 0) -> Sop:
    """The mean of the selected values, or the one symbol that is selected; `default` where none is."""
    return Aggregate(selector, values, default)


def selector_width(selector: Selector) -> Sop:
    """How many are selected."""
    return SelectorWidth(selector)


def run(program: Sop, sequence: Sequence[Value]) -> list[Value]:
    """What the program gives for a sequence: the interpreter."""
    known: dict[Sop, list[Value]] = {}
    for each in ordered(program):
        known[each] = each.over(sequence, known)
    return known[program]


def ordered(program: Sop) -> list[Sop]:
    """Every operation of a program once, after those that it is made of."""
    found: dict[Sop, None] = {}

    def visit(each: Sop) -> None:
        if each not in found:
            for earlier in each.inputs:
                visit(earlier)
            found[each] = None

    visit(program)
    return [*found]
