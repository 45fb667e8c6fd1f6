"""Evidence for tokens that halt, that merge while a model is adapted, and that a question leaves out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.compression import pyra
from everyformer.context import Context
from everyformer.costs import processor_seconds
from everyformer.data import find_task
from everyformer.designs import Design
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.patches import Canvases
from everyformer.evidence.runs import arrays, logistic_regression
from everyformer.generation import fastv
from everyformer.interpret import distraction
from everyformer.recipe import load_recipe
from everyformer.reduction import PYRA, FastV
from everyformer.specs import spec
from everyformer.tokens import Tokens

_SHOWN = 100
"""Samples that a model is adapted on."""
_CANVAS = {"image": 32, "patch": 4, "channels": 1, "classes": 10, "width": 64, "depth": 4, "heads": 4, "ratio": 2.0}


@cache
@torch.no_grad()
def _halting() -> dict[str, float]:
    """One digit on a canvas of 64 patches, learned by a ViT, and from there with tokens that halt; times of 64 at once."""
    canvases = Canvases(1)
    plain = canvases.teach(ef.create("vit", **_CANVAS, seed=0), 800, 64)
    model = ef.create("a-vit", **_CANVAS, shift=-20.0, cost=5e-3, prior=1e-2, seed=0)
    model.load_state_dict(plain.state_dict())

    def loss(step: int) -> Tensor:
        pictures, classes, _ = canvases.draw(64)
        with listening(model) as heard:
            said = F.cross_entropy(model(pictures), classes)
        return said + sum(heard)

    descend(model, loss, 500, lr=1e-3, rate=warmed(50), weight_decay=0.01)
    pictures, classes, _ = Canvases(1, seed=1).draw(1000, test=True)
    figures: dict[str, float] = {}
    for name, each in (("vit", plain), ("a-vit", model)):
        figures[name] = float((each(pictures).argmax(-1) == classes).float().mean())
    first, second = processor_seconds(lambda: plain(pictures[:64]), lambda: model(pictures[:64]), repeats=7)
    figures["times as fast"] = first / second
    counts: list[float] = []
    for block in model.backbone.blocks:
        block.register_forward_pre_hook(lambda part, given: counts.append(float(given[0].mask.float().sum(1).mean())))
    model(pictures)
    figures["blocks a token"] = sum(counts) / counts[0]
    return figures


@evidence("a-vit", kind="claim", claim="62 % more throughput for 0.3 points (DeiT-tiny, abstract).")
def halting_is_faster() -> Finding:
    """Processor time, one thread."""
    found = _halting()
    holds = found["times as fast"] >= 1.62 and found["vit"] - found["a-vit"] <= 0.003
    finding = (
        f"{found['times as fast']:.2f} times the speed, {found['blocks a token']:.2f} of {_CANVAS['depth']} blocks a token: "
        f"{found['a-vit']:.4f} against {found['vit']:.4f}"
    )
    return Finding(verdict(holds), finding, found)


@evidence("a-vit", kind="learns", claim="With tokens that halt it is far above the most frequent class.")
def halting_learns() -> Finding:
    """The same pictures; a tenth of them is of the most frequent class."""
    found = _halting()
    return Finding(verdict(found["a-vit"] > 0.5), f"{found['a-vit']:.4f} against 0.1", found)


@cache
@torch.no_grad()
def _adapted() -> dict[str, list[float]]:
    """A ViT of 64 tokens knows the digits 0 to 4, and is taught 5 to 9 while half of its tokens merge; five seeds.

    'tome' is the same with nothing re-scaled.
    """
    task = find_task("image-classification").open(**load_recipe("digits").data)
    train, test = (task.batch(split, list(range(task.size(split)))) for split in ("train", "test"))

    def half(batch: Any, upper: bool) -> tuple[Tensor, Tensor]:
        chosen = (batch["labels"] >= 5) == upper
        return batch["inputs"][chosen], batch["labels"][chosen]

    def taught(model: nn.Module, given: Sequence[Tensor], steps: int, seed: int) -> nn.Module:
        draws = torch.Generator().manual_seed(seed)

        def loss(step: int) -> Tensor:
            rows = torch.randint(len(given[1]), (64,), generator=draws)
            return F.cross_entropy(model(given[0][rows]), given[1][rows])

        return descend(model, loss, steps, lr=2e-3, rate=warmed(30))

    shape = {"image": 8, "patch": 1, "channels": 1, "classes": 10, "width": 48, "depth": 4, "heads": 4, "ratio": 2.0}
    known = taught(ef.create("vit", **shape, seed=0), half(train, False), 400, 0)
    few, (pictures, classes) = [each[:_SHOWN] for each in half(train, True)], half(test, True)
    found: dict[str, list[float]] = {"pyra": [], "tome": []}
    for seed in range(5):
        for name, reached in found.items():
            model = pyra(known, remove=8, seed=seed)
            for part in model.modules():
                if isinstance(part, PYRA):
                    part.requires_grad_(name == "pyra")
            taught(model, few, 600, seed)
            reached.append(float((model(pictures).argmax(-1) == classes).float().mean()))
    return found


@evidence(
    "pyra",
    kind="claim",
    claim="Adapted with half of its tokens merged a model is better than with ToMe and LoRA alone.",
)
def reactivation_against_merging() -> Finding:
    """A hundred of the digits 5 to 9 for a model of 0 to 4, five seeds."""
    found = _adapted()
    ours, theirs = mean(found["pyra"]), mean(found["tome"])
    return Finding(verdict(ours > theirs), f"{ours:.4f} against {theirs:.4f}, means of five", found)


@evidence("pyra", kind="learns", claim="Adapted with half of its tokens merged it is above logistic regression.")
def pyra_learns() -> Finding:
    """The same hundred digits."""
    inputs, labels = arrays(find_task("image-classification").open(**load_recipe("digits").data))
    upper = {split: (each >= 5).nonzero()[0][: _SHOWN if split == "train" else None] for split, each in labels.items()}
    inputs, labels = ({split: each[upper[split]] for split, each in of.items()} for of in (inputs, labels))
    base = logistic_regression(inputs, labels)
    ours = mean(_adapted()["pyra"])
    return Finding(verdict(ours > base), f"{ours:.4f} against {base:.4f}", {"ours": ours, "logistic_regression": base})


_KEYS, _VALUES, _TRAINED, _LEFT = 32, 8, 16, 18
"""Names and what they may stand for, distractors in training, and the tokens that a reduction leaves."""


class _AtRandom(FastV):
    """Any of the tokens stay; the question does."""

    def scores(self, tokens: Tokens, context: Context) -> Tensor:
        drawn = torch.rand(tokens.values.shape[:2], generator=context.generator)
        return drawn.masked_fill(self.ends(tokens), torch.inf)


def _needles(count: int, distractors: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Tokens that say what a name stands for, one of them of the name that the last token asks for, and its value."""
    asked = torch.randint(_KEYS, (count, 1), generator=generator)
    others = (asked + torch.randint(1, _KEYS, (count, distractors), generator=generator)) % _KEYS
    names = torch.cat((asked, others), 1)
    values = torch.randint(_VALUES, names.shape, generator=generator)
    order = torch.rand(names.shape, generator=generator).argsort(1)
    said = (names * _VALUES + values).gather(1, order)
    return {"inputs": torch.cat((said, _KEYS * _VALUES + asked), 1), "labels": values[:, 0]}


@cache
def _asking() -> nn.Module:
    """A decoder without positions that answers the question of its last token."""
    block = spec(ef.backbones.Block, mixer=spec(ef.mixers.Attention, heads=4))
    body = spec(
        ef.models.Model,
        width=64,
        embedding=spec(ef.embeddings.Text, vocabulary=_KEYS * (_VALUES + 1)),
        backbone=spec(ef.backbones.Decoder, blocks=(block,) * 3, norm=spec(ef.norms.LayerNorm)),
        head=spec(ef.heads.TokenHead, vocabulary=_VALUES),
    )
    model, generator = Design(body).build(seed=0), torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        batch = _needles(64, _TRAINED, generator)
        return F.cross_entropy(model(batch["inputs"])[:, -1], batch["labels"])

    return descend(model, loss, 1500, lr=2e-3, rate=warmed(100), weight_decay=0.01)


def _right(said: Tensor, labels: Tensor) -> Tensor:
    return said[:, -1].argmax(-1) == labels


@cache
def _distracted() -> dict[str, dict[int, float]]:
    """What is answered among ever more distractors; the block of the reduction is chosen on draws of its own."""
    model, ways = _asking(), {"asked": spec(FastV), "random": spec(_AtRandom)}

    def drawn(seed: int, *amounts: int) -> dict[int, dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        return {amount: _needles(256, amount, generator) for amount in amounts}

    def first(block: int) -> float:
        return distraction(model, drawn(1, 64), _right, left=_LEFT, block=block, asked=ways["asked"])["asked"][64]

    block = max(range(2), key=first)
    return distraction(model, drawn(2, 16, 32, 64, 128, 256, 512), _right, left=_LEFT, block=block, **ways)


@evidence(
    "token-reduction-beyond-efficiency",
    kind="claim",
    claim="Over long inputs a model is no worse, or better, where what the question does not ask for is left out, while "
    "random reduction to as many tokens falls to chance (benefits ii and iii).",
)
def fewer_tokens_answer_better() -> Finding:
    """One fact among 16 to 512 distractors, of which 16 are known from training."""
    found = _distracted()
    whole, asked, random = (found[name] for name in ("as it is", "asked", "random"))
    holds = all(asked[amount] >= whole[amount] for amount in whole) and random[512] < 0.2
    finding = ", ".join(
        f"{n}: {asked[n]:.3f} asked, {whole[n]:.3f} whole, {random[n]:.3f} random" for n in (16, 128, 512)
    )
    return Finding(
        verdict(holds), finding, {name: {str(n): each for n, each in of.items()} for name, of in found.items()}
    )


@evidence(
    "fastv", kind="claim", claim="Half of the prompt gone after the second block costs next to nothing (table 1)."
)
@torch.no_grad()
def fastv_costs_little() -> Finding:
    """The same decoder and question, 128 distractors: the answers, and the processor time of 16 prompts."""
    model = _asking()
    made, batch = fastv(copy.deepcopy(model)), _needles(512, 128, torch.Generator().manual_seed(3))
    whole, ours = (float(_right(each(batch["inputs"]), batch["labels"]).float().mean()) for each in (model, made))
    few = batch["inputs"][:16]
    before, after = processor_seconds(lambda: model(few), lambda: made(few), repeats=7)
    finding = f"{ours:.4f} against {whole:.4f}, {before / after:.2f} times the speed"
    figures = {"whole": whole, "fastv": ours, "times as fast": before / after}
    return Finding(verdict(whole - ours <= 0.01), finding, figures)
