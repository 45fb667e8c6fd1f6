"""Evidence for translation by one convolutional network over pairs: German into English, of Multi30k."""

from __future__ import annotations

from functools import cache

from torch import nn

import everyformer as ef
from everyformer.costs import parameters
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.sources import SHAPE, counted, taught, transformer, tried

SOURCES, STEPS = ("de",), 1600


@cache
def _model() -> nn.Module:
    shape = {"vocabulary": SHAPE["vocabulary"], "width": 32, "layers": 4, "growth": 16, "dropout": 0.0}
    return taught(ef.create("pervasive-attention", **shape, seed=0), SOURCES, STEPS)


@evidence(
    "pervasive-attention",
    kind="learns",
    claim="It writes the English of Multi30k's German with fewer nats a token than an interpolated bigram model.",
)
def pervasive_learns() -> Finding:
    """1,600 steps of 32 sentences, four layers of growth 16."""
    figures = {"pervasive-attention": tried(_model(), SOURCES), "bigrams": counted()}
    ours, baseline = figures.values()
    return Finding(verdict(ours < baseline), f"{ours:.4f} against {baseline:.4f} nats a token", figures)


@evidence(
    "pervasive-attention",
    kind="claim",
    claim="It translates better than encoder-decoders with attention, with fewer parameters (abstract, table 3).",
)
def pervasive_is_smaller_and_better() -> Finding:
    """The same steps for a Transformer of width 64 and two layers; whether a source is read shows with another sentence's."""
    models = {"pervasive-attention": _model(), "transformer": taught(transformer(), SOURCES, STEPS)}
    figures = {
        name: {
            "nats": tried(model, SOURCES),
            "misled": tried(model, SOURCES, other=True),
            "parameters": parameters(model),
        }
        for name, model in models.items()
    }
    ours, theirs = figures.values()
    holds = ours["nats"] < theirs["nats"] and ours["parameters"] < theirs["parameters"]
    finding = "; ".join(
        f"{name} {each['nats']:.4f} nats a token ({each['misled']:.4f} with another's German), "
        f"{each['parameters']:,} parameters"
        for name, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)
