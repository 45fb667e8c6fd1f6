"""Evidence for decoders that differ from Llama around the mixer: on Shakespeare by characters, at the same steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.data.tasks.language import LanguageModelling
from everyformer.edits import resize
from everyformer.evidence.descent import learn
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import trigrams_of_shakespeare
from everyformer.evidence.runs import scored, trained
from everyformer.objectives import Objective
from everyformer.recipe import load_recipe

SHORT = ("training.steps=400", "training.lr=3e-3", "training.evaluate_every=400", "training.warmup=40")
LONGER = ("training.steps=1200", "training.evaluate_every=1200", "training.warmup=120")
SLOW = {"algoformer", "brainformer", "deepscalelm", "h-net", "megabyte", "memoryformer", "tokenformer"}
"""Those that 400 steps do not bring below counted trigrams."""


@cache
def loss(system: str, *options: str) -> float:
    """Validation loss of a system of the size of nanoGPT after a short run."""
    return scored("shakespeare", f"design.system={system}", "design.size=nano", *SHORT, *options)["valid"]["loss"]


@cache
def shakespeare() -> LanguageModelling:
    """The data of the recipe."""
    return LanguageModelling.open(**load_recipe("shakespeare").data)


def validation(model: torch.nn.Module) -> float:
    """Nats a character on the validation part."""
    return shakespeare().evaluate(model.eval(), "valid").metrics["loss"]


def learns(system: str) -> Callable[[], Finding]:
    """The experiment that a system beats counted trigrams, after three times as many steps where it is slow."""

    @evidence(system, kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
    def run() -> Finding:
        ours, baseline = loss(system, *(LONGER if system in SLOW else ())), trigrams_of_shakespeare()
        held = ours < baseline
        finding = f"{ours:.4f} against {baseline:.4f} nats a character"
        return Finding(verdict(held), finding, {system: ours, "trigrams": baseline})

    return run


for _system in (
    "brainformer", "deepscalelm", "denseformer", "free-transformer", "h-net", "matformer", "megabyte", "memoryformer", "moe",
    "tokenformer",
):  # fmt: skip
    learns(_system)


def below(ours: float, theirs: float, name: str, other: str) -> Finding:
    """Whether one loss is below another."""
    held = ours < theirs
    return Finding(verdict(held), f"{name} {ours:.4f}, {other} {theirs:.4f}", {name: ours, other: theirs})


@evidence("moe", kind="claim", claim="At the same work for each token, experts beat the dense decoder (section 3).")
def moe_against_dense() -> Finding:
    """Two of four experts of hidden width 172, against one feedforward of 344."""
    return below(loss("moe"), loss("llama"), "two of four experts", "one feedforward of their width together")


@evidence(
    "denseformer", kind="claim", claim="At the same depth, depth-weighted averaging lowers the loss (section 4.2)."
)
def denseformer_against_plain() -> Finding:
    """Four blocks, averaged after each, against the same blocks without."""
    plain = loss("denseformer", "design.edits=[{set: backbone.depth, value: null}]")
    return below(loss("denseformer"), plain, "averaged", "plain")


@evidence(
    "tokenformer",
    kind="claim",
    claim="Grown to twice its tokens, it starts where it was and ends below the large model from scratch, at equal steps of "
    "the large one (section 4.2).",
)
def tokenformer_grows() -> Finding:
    """400 steps with 64 tokens, then 400 with 128, against 400 with 128 from scratch."""
    small = ("design.tokens=64",)
    with trained("shakespeare", "design.system=tokenformer", "design.size=nano", *SHORT, *small) as run:
        before, model = run.result["valid"]["loss"], run.model
        for path, more in (("**.mixer.*projection.tokens", 128), ("**.feedforward.projection.tokens", 512)):
            resize(model, path, more, seed=0)
        start = validation(model)
        after = continued(model)
    scratch = loss("tokenformer", "design.tokens=128")
    figures = {"small": before, "grown": start, "grown and trained": after, "from scratch": scratch}
    held = abs(start - before) < 1e-4 and after < scratch
    finding = f"{before:.4f} before growth, {start:.4f} after, {after:.4f} trained on; from scratch {scratch:.4f}"
    return Finding(verdict(held), finding, figures)


def windows(step: int) -> dict[str, torch.Tensor]:
    """Twelve windows of the training part of Shakespeare, one step's after another's."""
    task = shakespeare()
    rows = [(12 * step + i) % task.size("train") for i in range(12)]
    return task.batch("train", rows, train=True, seed=step)


def continued(model: torch.nn.Module, steps: int = 400, lr: float = 1e-3, objective: Objective | None = None) -> float:
    """Validation loss after more steps, of another objective where one is given."""
    objective = objective or shakespeare().objective().build()
    learn(model, objective, windows, steps, lr=lr, weight_decay=0.1, betas=(0.9, 0.99), clip=1.0)
    return validation(model)


@evidence(
    "matformer",
    kind="claim",
    claim="Each slice of one model is within 3 % of a model trained at its size; of a plain model a slice is far worse.",
)
def matformer_slices() -> Finding:
    """An eighth, a quarter, a half and all of 344 hidden units, each against Llama of that width at the same steps."""
    figures: dict[str, Any] = {"slices": {}, "alone": {}, "plain, sliced": {}}
    ratios: dict[str, float] = {}
    kinds = {"slices": ("design.rate=0.75",), "plain, sliced": ("design.rate=0.0",)}
    for kind, options in kinds.items():
        with trained("shakespeare", "design.system=matformer", "design.size=nano", *SHORT, *options) as run:
            for share in (0.125, 0.25, 0.5, 1.0):
                small = copy.deepcopy(run.model)
                resize(small, "backbone.body.blocks.*.feedforward.hidden", round(344 * share))
                figures[kind][str(share)] = validation(small)
    for share, sliced in figures["slices"].items():
        figures["alone"][share] = loss("llama", f"design.hidden={round(344 * float(share))}")
        ratios[share] = sliced / figures["alone"][share]
    held = max(ratios.values()) <= 1.03
    finding = ", ".join(f"{share} of the units {(ratio - 1):+.1%}" for share, ratio in ratios.items())
    finding += f" against a model of that size; half of a plain model {figures['plain, sliced']['0.5']:.2f} nats"
    return Finding(verdict(held), finding, figures)


@evidence(
    "memoryformer",
    kind="claim",
    claim="Looked-up tables learn as a plain transformer of the same width does (table 1).",
)
def memoryformer_against_gpt() -> Finding:
    """GPT of the same width and depth; within 5 % counts."""
    ours, theirs = loss("memoryformer"), loss("gpt")
    held = ours < 1.05 * theirs
    return Finding(verdict(held), f"{ours:.4f} against GPT's {theirs:.4f}", {"memoryformer": ours, "gpt": theirs})


@evidence(
    "h-net",
    kind="claim",
    claim="Chunks that are learned come near the wanted rate, and beat chunks of a fixed length (section 3.2).",
)
def hnet_cuts() -> Finding:
    """Four characters a chunk wanted; the rate after 250 steps within 30 %, the loss against every fourth character."""
    steps = ("training.steps=250", "training.evaluate_every=250")
    with trained("shakespeare", "design.system=h-net", "design.size=nano", *SHORT, *steps, "design.length=4") as run:
        ours, model = run.result["valid"]["loss"], run.model.eval()
    chances: list[torch.Tensor] = []
    model.get_submodule("backbone.blocks.0.chunks").register_forward_hook(lambda m, given, out: chances.append(out))
    with torch.no_grad():
        model(shakespeare().batch("valid", list(range(32)))["inputs"])
    rate = float((chances[0] >= 0.5).float().mean())
    stride = "design.edits=[{swap: backbone.blocks.0.chunks, with: {backbones.FixedChunks: {length: 4}}}]"
    fixed = loss("h-net", *steps, stride)
    held = ours < fixed and abs(rate - 0.25) <= 0.075
    finding = f"{ours:.4f} learned, {fixed:.4f} fixed; {rate:.3f} of the characters begin a chunk"
    return Finding(verdict(held), finding, {"learned": ours, "fixed": fixed, "rate": rate})


@evidence(
    "megabyte",
    kind="claim",
    claim="At no more work for each byte it beats a plain decoder, having more weights (table 2).",
)
def megabyte_for_less() -> Finding:
    """Patches of 4 against GPT of the size of nanoGPT: the loss, and FLOPs for the 64 characters of a sample."""
    figures = {}
    for system in ("megabyte", "gpt"):
        model = on_meta(ef.design(system, "nano", vocabulary=65))
        work = flops(model, {"inputs": torch.zeros(1, 64, dtype=torch.long)})[""]
        figures[system] = {"loss": loss(system), "flops": work, "parameters": parameters(model)}
    ours, plain = figures["megabyte"], figures["gpt"]
    held = ours["loss"] < plain["loss"] and ours["flops"] <= plain["flops"]
    finding = "; ".join(
        f"{name} {each['loss']:.4f} nats, {each['flops'] / 1e6:.0f} MFLOPs, {each['parameters']:,} parameters"
        for name, each in figures.items()
    )
    return Finding(verdict(held), finding, figures)
