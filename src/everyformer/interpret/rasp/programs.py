"""Programs of the RASP paper (Weiss et al., 2021, section 3 and appendix B)."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from everyformer.interpret.rasp.language import (
    Sop,
    aggregate,
    elementwise,
    indices,
    pair,
    select,
    selector_width,
    tokens,
)

_EARLIER = select(indices, indices, operator.le)
"""Each place sees itself and those before it."""


def length() -> Sop:
    """How long the sequence is, at each place."""
    return selector_width(select(indices, indices, lambda key, query: True))


def reverse() -> Sop:
    """The tokens from the last to the first."""
    opposite = elementwise(lambda count, place: count - 1 - place, length(), indices)
    return aggregate(select(indices, opposite, operator.eq), tokens, None)


def histogram() -> Sop:
    """How often each token stands in the sequence."""
    return selector_width(select(tokens, tokens, operator.eq))


def sort() -> Sop:
    """The tokens in order; equal ones as they came."""
    smaller = select(tokens, tokens, operator.lt)
    equal_and_earlier = select(tokens, tokens, operator.eq) & select(indices, indices, operator.lt)
    rank = selector_width(smaller | equal_and_earlier)
    return aggregate(select(rank, indices, operator.eq), tokens, None)


def dyck(pairs: Sequence[str]) -> Sop:
    """Of each prefix: 'T' if it is balanced, 'P' if it can still become so, 'F' if not; `pairs` are "()", "{}", ...

    Brackets at the same depth are numbered; one that closes is matched with the one before it at its depth, which must
    have opened with its partner.
    """
    openers, partner = {each[0] for each in pairs}, {each[1]: each[0] for each in pairs}
    step = elementwise(lambda token: 1 if token in openers else -1, tokens)
    depth = elementwise(lambda mean, place: round(mean * (place + 1)), aggregate(_EARLIER, step), indices)
    if len(pairs) == 1:
        wrong = elementwise(lambda deep: deep < 0, depth)
    else:
        level = elementwise(lambda deep, token: deep if token in openers else deep + 1, depth, tokens)
        same = select(level, level, operator.eq)
        number = selector_width(same & _EARLIER)
        before = select(pair(level, number), pair(level, number), lambda key, query: key == (query[0], query[1] - 1))
        opened = aggregate(before, tokens, None)
        wrong = elementwise(
            lambda deep, token, partner_found: deep < 0 or (token in partner and partner_found != partner[token]),
            depth, tokens, opened,
        )  # fmt: skip
    broken = aggregate(_EARLIER, wrong)
    return elementwise(lambda share, deep: "F" if share > 0 else "T" if deep == 0 else "P", broken, depth)
