"""What classes are that differ from their system in one place: another part there, or one stack of two alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.interop.weights import Pair
from everyformer.models import Model
from everyformer.published.upon import Make, upon
from everyformer.specs import Spec, spec

_OURS = {"source": "embedding", "target": "embedding", "encoder": "backbone", "decoder": "backbone"}


def exchanged(make: Make, place: str, part: Callable[..., Any]) -> Make:
    """What makes the same with another part at a place, of the options that stood there."""

    @upon(make)
    def other(design: Design) -> Design:
        return design.set(place, Spec(part, design.get(place).options))

    return other


def encoder(make: Make) -> Make:
    """What makes the encoder alone of the options of the whole."""

    @upon(make)
    def reader(design: Design) -> Design:
        whole = design.spec
        embedding, body = whole.get("source"), whole.get("encoder")
        return Design(
            spec(Model, width=whole.get("width"), embedding=embedding, backbone=body, start=whole.get("start"))
        )

    return reader


def decoder(make: Make) -> Make:
    """What makes the decoder alone, which then attends to nothing but what it wrote."""

    @upon(make)
    def writer(design: Design) -> Design:
        whole, body = design.spec, design.get("decoder")
        return Design(
            spec(
                Model,
                width=whole.get("width"),
                embedding=spec(Text, **whole.get("target").options),
                backbone=body.but(blocks=tuple(block.but(cross=()) for block in body.get("blocks"))),
                head=whole.get("head").but(bias=False),
                start=whole.get("start"),
            )
        )

    return writer


def alone(pairs: Iterable[Pair], stack: str) -> list[Pair]:
    """Those of the pairs of the whole that speak of one stack, for a model that is that stack."""
    found = []
    for pair in pairs:
        if all(theirs.startswith(f"{stack}.") for theirs in pair.theirs):
            place, _, rest = pair.ours.partition(".")
            found.append(replace(pair, ours=f"{_OURS[place]}.{rest}"))
    return found
