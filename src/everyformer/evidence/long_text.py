"""Evidence for encoders of long texts: topics of news, facts that stand far away, and how time grows with the length."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.contracts import Mixer, mix
from everyformer.costs import processor_seconds
from everyformer.data.tasks.language import LanguageModelling
from everyformer.evidence.descent import descend
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.kernels import letters
from everyformer.evidence.runs import scored, trained
from everyformer.masks import Window
from everyformer.mixers import (
    Attention,
    BernoulliAttention,
    BigBirdAttention,
    LabelledGlobalLocal,
    LongformerAttention,
    MultiResolution,
    NystromAttention,
    SampledBernoulliAttention,
)
from everyformer.recipe import load_recipe
from everyformer.tokens import Tokens

_SHORT = (
    "design.size=tiny", "design.width=64", "data.length=64", "training.epochs=2", "training.lr=2e-3",
    "training.threads=1",
)  # fmt: skip
OPTIONS = {
    "bigbird": ("design.length=64", "design.block=4"),
    "etc": ("design.window=8", "design.block=16"),
    "hypothesis-d": ("design.length=64",),
    "longformer": ("design.length=64", "design.window=16"),
    "modernbert": ("design.window=16",),
    "mra-attention": ("design.length=64", "design.block=8"),
    "nystromformer": ("design.length=64",),
    "yoso": ("design.length=64",),
}
"""What makes each attention sparse at 64 tokens."""


def _learns(system: str) -> Callable[[], Finding]:
    def run() -> Finding:
        result = scored("ag_news", f"design.system={system}", *OPTIONS[system], *_SHORT)
        ours, baseline = result["metrics"]["accuracy"], letters()
        held = ours > baseline
        finding = f"{ours:.4f} against {baseline:.4f} after 2 epochs"
        return Finding(verdict(held), finding, {system: ours, "letters": baseline})

    return run


for _name in OPTIONS:
    evidence(_name, kind="learns", claim="Accuracy on AG News is above logistic regression on counts of letters.")(
        _learns(_name)
    )


def growth(mixer: Mixer, *, counts: tuple[int, int] = (1024, 8192), marked: int = 0) -> float:
    """The exponent with which the processor time of a forward pass grows from one length to another."""
    seconds = []
    with torch.no_grad():
        for count in counts:
            values = torch.randn(1, count, 64, generator=torch.Generator().manual_seed(0))
            marks = (torch.arange(count) < marked)[None] if marked else None
            seconds += processor_seconds(partial(mix, mixer, Tokens(values, marked=marks), Context()), repeats=3)
    return math.log(seconds[1] / seconds[0]) / math.log(counts[1] / counts[0])


def _grown(ours: float) -> tuple[str, dict[str, float]]:
    figures = {"ours": ours, "attention": growth(Attention(64, heads=4))}
    return f"time grows as N^{figures['ours']:.2f}, attention's as N^{figures['attention']:.2f}", figures


def far_facts(model: nn.Module, count: int, classes: int, steps: int) -> float:
    """Accuracy at telling which of `classes` tokens stands at a random place of the last quarter of noise."""
    generator = torch.Generator().manual_seed(0)

    def batch(size: int) -> tuple[Tensor, Tensor]:
        inputs = torch.randint(2 * classes, 4 * classes, (size, count), generator=generator)
        labels = torch.randint(classes, (size,), generator=generator)
        places = torch.randint(3 * count // 4, count, (size, 1), generator=generator)
        inputs[:, 0] = 2 * classes - 1
        return inputs.scatter(1, places, labels[:, None]), labels

    def loss(step: int) -> Tensor:
        inputs, labels = batch(32)
        return F.cross_entropy(model(inputs), labels)

    descend(model, loss, steps, lr=2e-3)
    inputs, labels = batch(512)
    with torch.no_grad():
        return (model(inputs).argmax(-1) == labels).float().mean().item()


@evidence(
    "longformer",
    kind="claim",
    claim="Time grows linearly with the length, and a token that sees all carries facts from beyond the windows (3.1).",
)
def longformer_claim() -> Finding:
    """One layer from 1,024 to 8,192 tokens; two layers of windows of 8 with and without a marked first token."""
    found, figures = _grown(growth(LongformerAttention(64, heads=4, mask=Window(64, 64)), marked=1))
    shape = {"vocabulary": 32, "classes": 8, "width": 64, "depth": 2, "heads": 4, "window": 8, "length": 96}
    plain = {"dropout": 0.0, "attention_dropout": 0.0}
    for name, leading in (("marked", 1), ("local", 0)):
        torch.manual_seed(0)
        figures[name] = far_facts(ef.create("longformer", **shape, **plain, leading=leading), 96, 8, 250)
    held = figures["ours"] < 1.25 and figures["marked"] > 0.9 and figures["local"] < 0.3
    finding = f"{found}; a far fact is found in {figures['marked']:.0%} with a marked token, in {figures['local']:.0%} without"
    return Finding(verdict(held), finding, figures)


@evidence(
    "etc",
    kind="claim",
    claim="Time grows linearly with the length, and summaries carry facts from beyond the windows (section 3.1).",
)
def etc_claim() -> Finding:
    """One layer from 1,024 to 8,192 tokens; two layers of windows of 4 on each side, with and without summaries of 16."""
    found, figures = _grown(growth(LabelledGlobalLocal(64, heads=4, mask=Window(64, 64)), marked=16))
    shape = {"vocabulary": 32, "classes": 8, "width": 64, "depth": 2, "heads": 4, "window": 4, "block": 16}
    whole = ef.design("etc", **shape, dropout=0.0, attention_dropout=0.0)
    for name, design in (("summaries", whole), ("local", whole.swap("backbone", whole.get("backbone.body")))):
        figures[name] = far_facts(design.build(seed=0), 96, 8, 250)
    held = figures["ours"] < 1.25 and figures["summaries"] > 0.9 and figures["local"] < 0.3
    finding = (
        f"{found}; a far fact is found in {figures['summaries']:.0%} with summaries, in {figures['local']:.0%} without"
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "hypothesis-d",
    kind="claim",
    claim="A router learns which segment matters: far facts are found as with full attention, which random choice misses.",
)
def hypothesis_d_claim() -> Finding:
    """Two layers of windows of 8 over 96 tokens, one segment of 8 chosen: learnt, none, and by a router that never learns."""
    shape = {
        "vocabulary": 32,
        "classes": 8,
        "width": 64,
        "depth": 2,
        "heads": 4,
        "window": 8,
        "length": 96,
        "segment": 8,
    }
    plain = {"dropout": 0.0, "attention_dropout": 0.0}
    figures = {}
    for name, chosen in (("learnt", 1), ("none", 0), ("random", 1)):
        torch.manual_seed(0)
        model = ef.create("hypothesis-d", **shape, **plain, chosen=chosen)
        if name == "random":
            for block in model.backbone.blocks:
                block.mixer.router.requires_grad_(False)
        figures[name] = far_facts(model, 96, 8, 300)
    held = figures["learnt"] > 0.9 and figures["learnt"] > figures["random"] + 0.2 and figures["none"] < 0.3
    finding = ", ".join(f"{share:.0%} with {name}" for name, share in figures.items())
    return Finding(verdict(held), f"far facts found: {finding}", figures)


@evidence(
    "bigbird",
    kind="claim",
    claim="Time grows linearly with the length, and far facts reach the first token as in full attention (section 2).",
)
def bigbird_claim() -> Finding:
    """One layer from 1,024 to 8,192 tokens; two layers of blocks of 4 with one random block over 96 tokens."""
    found, figures = _grown(growth(BigBirdAttention(64, heads=4, block=32, random=2)))
    shape = {"vocabulary": 32, "classes": 8, "width": 64, "depth": 2, "heads": 4, "length": 96, "dropout": 0.0}
    torch.manual_seed(0)
    model = ef.create("bigbird", **shape, attention_dropout=0.0, block=4, random=1)
    figures["far facts"] = far_facts(model, 96, 8, 250)
    held = figures["ours"] < 1.25 and figures["far facts"] > 0.9
    finding = f"{found}; a far fact is found in {figures['far facts']:.0%}"
    return Finding(verdict(held), finding, figures)


@cache
def recorded(length: int = 512) -> list[dict[str, Tensor]]:
    """Queries, keys and values of every layer of a small decoder after some training on Shakespeare, without its mask."""
    seen: list[dict[str, Tensor]] = []
    shape = ("design.width=64", "design.depth=2", "design.heads=2", f"design.length={length}", f"data.length={length}")
    short = ("training.steps=150", "training.evaluate_every=150", "training.warmup=15", "training.batch=4")
    with trained("shakespeare", *shape, *short) as run:
        ids = LanguageModelling.open(**load_recipe("shakespeare").data).parts["valid"][:length]
        for block in run.model.backbone.blocks:
            seen.append({})
            for name in ("queries", "keys", "values"):
                tap = getattr(block.mixer, name)
                tap.register_forward_hook(lambda m, i, output, kept=seen[-1], name=name: kept.update({name: output}))
        with torch.no_grad():
            run.model.eval()(ids[None])
    return seen


def error(mixer: Any) -> float:
    """How far the answers of a mixer are from those of softmax attention on what was recorded, relatively."""
    off = []
    for layer in recorded():
        exact = F.scaled_dot_product_attention(layer["queries"], layer["keys"], layer["values"])
        found = mixer(layer["queries"], layer["keys"], layer["values"])
        off.append(((found - exact).norm() / exact.norm()).item())
    return sum(off) / len(off)


def _nystrom(landmarks: int) -> Callable[..., Tensor]:
    made = NystromAttention(64, heads=2, landmarks=landmarks, kernel=None)
    scale = 32**-0.25
    return lambda q, k, v: made.approximate(q * scale, k * scale, v)


def _multi(block: int, exact: int) -> Callable[..., Tensor]:
    made = MultiResolution(64, heads=2, block=block, exact=exact)
    return lambda q, k, v: made.approximate(q[0] * 32**-0.5, k[0], v[0])[None]


def _window(side: int) -> Callable[..., Tensor]:
    at = torch.arange(512)
    seen = (at[:, None] - at).abs() <= side
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


@evidence(
    "nystromformer",
    kind="claim",
    claim="Time grows linearly with the length, and the error of the approximation falls with the landmarks (section 3).",
)
def nystrom_claim() -> Finding:
    """One layer from 1,024 to 8,192 tokens; queries and keys of a trained decoder, 512 tokens, without its mask."""
    found, figures = _grown(growth(NystromAttention(64, heads=4)))
    errors = {str(count): error(_nystrom(count)) for count in (16, 32, 64, 128)}
    each = list(errors.values())
    held = figures["ours"] < 1.25 and each == sorted(each, reverse=True)
    told = ", ".join(f"{value:.3f} with {count}" for count, value in errors.items())
    finding = f"{found}; relative error {told} landmarks"
    return Finding(verdict(held), finding, {**figures, "errors": errors})


@evidence(
    "mra-attention",
    kind="claim",
    claim="At an equal number of scores it is nearer to softmax attention than landmarks or a window (section 5, figure 4).",
)
def mra_claim() -> Finding:
    """Queries and keys of a trained decoder, 512 tokens, without its mask: about 75 scores a query for each."""
    figures = {
        "MRA, exact blocks 4": error(_multi(16, 4)),
        "MRA, exact blocks 1": error(_multi(16, 1)),
        "Nystroem, 64 landmarks": error(_nystrom(64)),
        "window of 75": error(_window(37)),
    }
    ours, *others = figures.values()
    held = ours < min(others)
    finding = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    return Finding(verdict(held), f"relative error: {finding}", figures)


@evidence(
    "yoso",
    kind="claim",
    claim="Time grows linearly with the length, and the error of sampling falls with the hashes (sections 3.1 and 3.2).",
)
def yoso_claim() -> Finding:
    """One layer from 1,024 to 8,192 tokens; queries and keys of a trained decoder, 512 tokens, by what hashes come to."""
    found, figures = _grown(growth(SampledBernoulliAttention(64, heads=4, bits=8, hashes=16).eval()))
    exact = BernoulliAttention(64, heads=2, bits=8)
    errors = {}
    for count in (8, 32, 128):
        sampled, off = SampledBernoulliAttention(64, heads=2, bits=8, hashes=count).eval(), []
        for layer in recorded():
            given = *(F.normalize(layer[name], dim=-1) for name in ("queries", "keys")), layer["values"], Context()
            with torch.no_grad():
                wanted, got = (F.normalize(each.collide(*given), dim=-1) for each in (exact, sampled))
            off.append(((got - wanted).norm() / wanted.norm()).item())
        errors[str(count)] = sum(off) / len(off)
    each = list(errors.values())
    held = figures["ours"] < 1.25 and each == sorted(each, reverse=True) and each[-1] < each[0] / 2
    told = ", ".join(f"{value:.3f} with {count}" for count, value in errors.items())
    finding = f"{found}; relative error {told} hashes"
    return Finding(verdict(held), finding, {**figures, "errors": errors})
