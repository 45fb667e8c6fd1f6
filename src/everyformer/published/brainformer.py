"""Brainformer (Zhou et al., 2023)."""

from __future__ import annotations

import random

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.feedforward import MLP, CappedTopK, Experts
from everyformer.published.gpt import gpt
from everyformer.registry import system
from everyformer.specs import spec

LETTERS = "afg"
"""Attention, feedforward, gated by a router: the letters of the paper's figure 2."""


@system(
    "brainformer",
    title="Brainformers: Trading Simplicity for Efficiency",
    authors="Zhou et al.",
    year=2023,
    arxiv="2306.00008",
    idea="Attention, feedforwards and experts in any order, found by evolution at a fixed time of training, then stacked.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {"width": 128, "hidden": 344, "repeats": 2, "heads": 4, "length": 64, "experts": 4},
        "small": {"width": 768, "hidden": 3072, "repeats": 4, "heads": 12, "experts": 32},
    },
)
def brainformer(
    *,
    vocabulary: int = 50257,
    length: int = 1024,
    pattern: str = "agfgf",
    repeats: int = 4,
    width: int = 768,
    hidden: int = 3072,
    expert_hidden: int | None = None,
    heads: int = 12,
    experts: int = 32,
    chosen: int = 2,
    capacity: float = 2.0,
    balance: float = 0.01,
    dropout: float = 0.0,
) -> Design:
    """Section 3, in GPT-2's frame: `pattern` is a block, a letter a sub-layer, each under a residual of its own: a attention,
    f feedforward, g experts. `training.evolution.evolve` finds one with `mutated`; the default is no found one, but as few
    attentions among as many experts as those tend to have.
    """
    if not pattern or any(letter not in LETTERS for letter in pattern):
        raise BadInput(f"a pattern is written with the letters {', '.join(LETTERS)}; given {pattern!r}")
    plain = gpt(
        vocabulary=vocabulary, length=length, width=width, hidden=hidden, depth=1, heads=heads, dropout=dropout
    )  # fmt: skip
    whole = plain.get("backbone.blocks.0")
    sparse = spec(
        Experts,
        count=experts,
        expert=spec(MLP, hidden=expert_hidden or hidden // 2, activation="gelu_tanh"),
        router=spec(CappedTopK, k=chosen, capacity=capacity, length=length, balance=balance),
    )
    kinds = {
        "a": whole.but(feedforward=None),
        "f": whole.but(mixer=None),
        "g": spec(Block, mixer=None, feedforward=sparse, residual=whole.get("residual")),
    }
    blocks = tuple(kinds[letter] for letter in pattern) * repeats
    return plain.swap("backbone", spec(Decoder, blocks=blocks, norm=plain.get("backbone").get("norm")))


def mutated(pattern: str, chance: random.Random) -> str:
    """A pattern with one sub-layer exchanged, put in or taken out."""
    at, kind = chance.randrange(len(pattern)), chance.choice(("exchange", "insert", "remove"))
    letter = chance.choice(LETTERS)
    if kind == "insert":
        return pattern[:at] + letter + pattern[at:]
    rest = pattern[at + 1 :]
    return pattern[:at] + rest if kind == "remove" and len(pattern) > 1 else pattern[:at] + letter + rest
