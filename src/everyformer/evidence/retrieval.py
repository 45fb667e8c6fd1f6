"""Evidence for reading far past the length of training: facts in long sources."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import everyformer as ef
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence
from everyformer.models import unlimiformer

KEYS, VALUES, NOISE = 16, 8, 32
VOCABULARY = KEYS * VALUES + KEYS + NOISE
"""A token for each fact, a token for each question, words that mean nothing."""


def documents(count: int, length: int, generator: torch.Generator, facts: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (B, length) of noise with `facts` among it, each a key with its value; a question for one key; its value."""
    inputs = torch.randint(VOCABULARY - NOISE, VOCABULARY, (count, length), generator=generator)
    places = torch.rand(count, length, generator=generator).argsort(1)[:, :facts]
    keys = torch.rand(count, KEYS, generator=generator).argsort(1)[:, :facts]
    values = torch.randint(VALUES, (count, facts), generator=generator)
    return inputs.scatter(1, places, keys * VALUES + values), KEYS * VALUES + keys[:, :1], values[:, 0]


@torch.no_grad()
def found(model: Any, length: int, *, seen: int | None = None, count: int = 256) -> float:
    """The share of values that the model tells, given the first `seen` tokens of each source."""
    inputs, keys, values = documents(count, length, torch.Generator().manual_seed(1))
    right = [
        model(part[:, :seen], key)[:, -1, :VALUES].argmax(-1) == value
        for part, key, value in zip(inputs.split(32), keys.split(32), values.split(32), strict=True)
    ]
    return torch.cat(right).float().mean().item()


@evidence(
    "unlimiformer",
    kind="claim",
    claim="A model trained on short sources answers from ones 16 times as long, where cutting them off fails (section 4).",
)
def facts_in_long_sources() -> Finding:
    """Six facts among noise, trained at 48 tokens; then at 48, 192 and 768, whole, with 16 states kept, and cut off."""
    torch.manual_seed(0)
    shape = {"vocabulary": VOCABULARY, "width": 64, "hidden": 128, "depth": 2, "heads": 4, "dropout": 0.0}
    model = ef.create("transformer", **shape, pre_norm=True)
    generator = torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        inputs, keys, values = documents(64, 48, generator)
        return F.cross_entropy(model(inputs, keys)[:, -1, :VALUES], values)

    descend(model, loss, 400, lr=2e-3, rate=warmed(50))
    long = unlimiformer(model, length=48, keep=16)
    figures = {
        str(length): {
            "pieces": found(long, length),
            "whole": found(model, length),
            "cut off": found(model, length, seen=48),
        }
        for length in (48, 192, 768)
    }
    far = figures["768"]
    held = far["pieces"] > 0.8 and far["pieces"] > 2 * far["cut off"]
    finding = "; ".join(
        f"{length} tokens: {each['pieces']:.0%} in pieces, {each['whole']:.0%} whole, {each['cut off']:.0%} cut off"
        for length, each in figures.items()
    )
    return Finding("holds" if held else "does not hold at this scale", finding, figures)
