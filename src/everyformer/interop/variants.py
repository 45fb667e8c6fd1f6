"""What classes are that differ from their system in one place: another part there, or one stack of two alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from typing import Any

from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.interop.weights import Pair
from everyformer.models import Model
from everyformer.specs import Spec, spec

_OURS = {"source": "embedding", "target": "embedding", "encoder": "backbone", "decoder": "backbone"}


def exchanged(make: Callable[..., Design], place: str, part: Callable[..., Any]) -> Callable[..., Design]:
    """What makes the same with another part at a place, of the options that stood there."""

    @wraps(make)
    def made(**options: object) -> Design:
        whole = make(**options)
        return whole.set(place, Spec(part, whole.get(place).options))

    return made


def encoder(make: Callable[..., Design]) -> Callable[..., Design]:
    """What makes the encoder alone of the options of the whole."""

    @wraps(make)
    def alone(**options: object) -> Design:
        whole = make(**options).spec
        return Design(
            spec(
                Model,
                width=whole.get("width"),
                embedding=whole.get("source"),
                backbone=whole.get("encoder"),
                start=whole.get("start"),
            )
        )

    return alone


def decoder(make: Callable[..., Design]) -> Callable[..., Design]:
    """What makes the decoder alone, which then attends to nothing but what it wrote."""

    @wraps(make)
    def alone(**options: object) -> Design:
        whole = make(**options).spec
        body, head = whole.get("decoder"), whole.get("head")
        return Design(
            spec(
                Model,
                width=whole.get("width"),
                embedding=spec(Text, **(whole.get("target") or whole.get("source")).options),
                backbone=body.but(blocks=tuple(block.but(cross=()) for block in body.get("blocks"))),
                head=head.but(bias=False),
                start=whole.get("start"),
            )
        )

    return alone


def alone(pairs: Iterable[Pair], stack: str) -> list[Pair]:
    """Those of the pairs of the whole that speak of one stack, for a model that is that stack."""
    found = []
    for pair in pairs:
        if all(theirs.startswith(f"{stack}.") for theirs in pair.theirs):
            place, _, rest = pair.ours.partition(".")
            found.append(replace(pair, ours=f"{_OURS[place]}.{rest}"))
    return found
