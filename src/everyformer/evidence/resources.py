"""Evidence for depth, width and what stands around the layers as things to spend: PartialFormer, ACM, I3D, FIT and others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.costs import flops, on_meta, processor_seconds
from everyformer.data import find_task
from everyformer.designs import Design
from everyformer.evidence.decoders import SHORT, below, continued, loss, shakespeare, validation, windows
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import trigrams_of_shakespeare
from everyformer.evidence.others import spectrograms, translates
from everyformer.evidence.runs import arrays, logistic_regression, scored, trained
from everyformer.feedforward import Adaptive, SampleGate
from everyformer.objectives import Budgeted, Classification, FutureTokens, NextToken, Objective
from everyformer.objectives.base import LABELS
from everyformer.objectives.budget import work
from everyformer.published.brainformer import mutated
from everyformer.recipe import load_recipe
from everyformer.training.evolution import evolve

_HEADS = (
    "design.edits=[{remove: backbone.blocks.*.feedforward}, {swap: backbone.blocks.*.mixer, with: {mixers.PartialAttention: "
    "{heads: 4, value_heads: 8, ratio: 4, steps: [{scores.HeadMLP: {to: 8}}], positions: {positions.Rotary: {}}}}}]"
)


@evidence(
    "partialformer", kind="learns", long=True,
    claim="After four epochs on Multi30k it is above word-by-word translation by the most frequent partner.",
)  # fmt: skip
def partialformer_learns() -> Finding:
    """The multi30k recipe with its tiny size."""
    return translates("partialformer", "design={system: partialformer, size: tiny}")


@evidence(
    "partialformer",
    kind="claim",
    claim="At equal parameters small feedforwards on heads beat a narrow one on the whole token.",
)
def partialformer_against_narrow() -> Finding:
    """In Llama's frame at the size of nanoGPT, against a gated feedforward as narrow as makes the parameters equal."""
    return below(loss("llama", _HEADS), loss("llama", "design.hidden=151"), "on heads", "narrow")


@cache
def _task(recipe: str) -> Any:
    """The data of a recipe."""
    loaded = load_recipe(recipe)
    return find_task(loaded.task).open(**loaded.data)


@evidence("fit", kind="learns", claim="Accuracy on handwritten digits is above logistic regression on pixels.")
def fit_learns() -> Finding:
    """The digits recipe, a pixel a token, in windows of four by four."""
    with trained("digits", "training.epochs=80", design={"system": "fit", "size": "digits"}) as run:
        ours, baseline = run.result["metrics"]["accuracy"], logistic_regression(*arrays(_task("digits")))
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"fit": ours, "logistic regression": baseline})


@evidence(
    "fit",
    kind="claim",
    claim="Latents between groups make the loss lower than attention within groups alone, at equal depth.",
)
def fit_reaches_far() -> Finding:
    """Groups of eight characters: two rounds of a local layer, latents, and one layer that reads them; four local layers."""
    design = {"system": "fit", "width": 128, "heads": 4, "group": 8, "latents": 2, "rounds": 2, "local": 1, "outer": 1}
    ours = scored("shakespeare", *SHORT, design=design)["valid"]["loss"]
    block = "{mixers.Attention: {heads: 4, bias: false, mask: {masks.Block: {size: 8}}}}"
    local = loss("gpt", f"design.edits=[{{swap: backbone.blocks.*.mixer, with: {block}}}]")
    return below(ours, local, "with latents", "local alone")


def _fine_tuned(model: nn.Module, task: Any, budget: float, steps: int = 400) -> tuple[float, float]:
    """Test accuracy under a budget, and the share of the work that was done."""
    objective = Budgeted(objective=ef.spec(Classification, smoothing=0.1), budget=budget, weight=1.0)

    def batch(step: int) -> dict[str, Tensor]:
        rows = [(64 * step + i) % task.size("train") for i in range(64)]
        found: dict[str, Tensor] = task.batch("train", rows, train=True, seed=step)
        return found

    learn(model, objective, batch, steps, lr=5e-4, weight_decay=0.01)
    chosen: dict[nn.Module, list[Tensor]] = {m: [] for m in model.modules() if isinstance(m, Adaptive)}
    hooks = [
        part.chosen.register_forward_hook(lambda m, given, out, heard=heard: heard.append(out))
        for part, heard in chosen.items()
    ]
    accuracy = task.evaluate(model, "test").metrics["accuracy"]
    for hook in hooks:
        hook.remove()
    return accuracy, float(work({part: torch.cat(heard) for part, heard in chosen.items()}))


_ACM = {"system": "vit", "patch": 2, "width": 64, "depth": 2, "heads": 4, "ratio": 2}
_EVERYWHERE = ("**.blocks.*.feedforward", "**.blocks.*.mixer")


@cache
def _halved(*paths: str) -> dict[str, float]:
    """A small ViT on digits, its layers at `paths` as learners of the training part, fine-tuned to a budget of one half."""
    with trained("digits", design=_ACM) as run:
        whole, task, model = run.result["metrics"]["accuracy"], _task("digits"), run.model.eval()
        given = [task.batch("train", list(range(i, i + 64)))["inputs"] for i in range(0, 768, 64)]
        made = ef.compression.acm(model, given, paths=paths)
        accuracy, share = _fine_tuned(made, task, budget=0.5)
    pictures = torch.cat(given)
    with torch.no_grad():
        before, after = processor_seconds(lambda: model(pictures), lambda: made(pictures))
    return {"whole": whole, "acm": accuracy, "work": share, "seconds": after, "whole seconds": before}


@evidence(
    "acm",
    kind="claim",
    claim="Converted at half the work it is above a model with half the hidden units, and keeps the budget.",
)
def acm_for_half() -> Finding:
    """Its feedforwards."""
    figures = {**_halved(_EVERYWHERE[0])}
    half = figures["half the units"] = scored("digits", design={**_ACM, "ratio": 1})["metrics"]["accuracy"]
    accuracy, share = figures["acm"], figures["work"]
    held = accuracy >= half and abs(share - 0.5) <= 0.03
    finding = f"{accuracy:.4f} with {share:.2f} of the work; whole {figures['whole']:.4f}, half the units {half:.4f}"
    return Finding(verdict(held), finding, figures)


@evidence(
    "acm",
    kind="claim",
    claim="With the projections of attention converted too, half the work costs at most two points, and less time.",
)
def acm_of_attention() -> Finding:
    """Feedforwards, queries, keys, values and outputs; processor time of 768 pictures, in turns with the whole model."""
    figures = _halved(*_EVERYWHERE)
    time = figures["seconds"] / figures["whole seconds"]
    held = figures["acm"] >= figures["whole"] - 0.02 and figures["work"] <= 0.53 and time < 1
    finding = (
        f"{figures['acm']:.4f} with {figures['work']:.2f} of the work in {time:.2f} of the time; {figures['whole']:.4f}"
    )
    return Finding(verdict(held), finding, {**figures, "time": time})


@contextmanager
def gates(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the gates of a model keep, 1 or 0 for each of their layers, while it runs."""
    kept: list[Tensor] = []
    hooks = [
        gate.register_forward_hook(lambda m, given, out: kept.append(out[:, 0]))
        for gate in model.modules()
        if isinstance(gate, SampleGate)
    ]
    yield kept
    for hook in hooks:
        hook.remove()


def _spoken(cost: float, epochs: int = 12) -> dict[str, float]:
    """Accuracy on spoken digits, and the share of layers that run."""
    design = {"system": "i3d", "size": "digits", "cost": cost}
    overrides = (f"training.epochs={epochs}", "training.threads=1")
    with trained("spoken_digits", *overrides, design=design) as run, gates(run.model) as kept:
        accuracy = _task("spoken_digits").evaluate(run.model.eval(), "test").metrics["accuracy"]
    return {"accuracy": accuracy, "share": float(torch.cat(kept).mean())}


@cache
def _gated(cost: float) -> dict[str, float]:
    return _spoken(cost)


@evidence("i3d", kind="learns", claim="Accuracy on spoken digits is above logistic regression on log-mel spectrograms.")
def i3d_learns() -> Finding:
    """The spoken_digits recipe, 12 epochs, six layers with gates."""
    ours, baseline = _gated(0.1)["accuracy"], spectrograms()
    held = ours > baseline
    return Finding(verdict(held), f"{ours:.4f} against {baseline:.4f}", {"i3d": ours, "logistic_regression": baseline})


@evidence(
    "i3d",
    kind="claim",
    claim="A higher cost runs fewer layers, and at no more layers it is as good as a shallower model.",
)
def i3d_for_less() -> Finding:
    """Costs 0.1 and 1; a plain encoder of as many layers as the dearer one runs, rounded up."""
    figures: dict[str, Any] = {str(cost): _gated(cost) for cost in (0.1, 1.0)}
    cheap, dear = figures.values()
    depth = max(1, round(6 * dear["share"] + 0.49))
    block = (
        "{backbones.Block: {mixer: {mixers.Attention: {heads: 4}}, feedforward: {feedforward.MLP: {hidden: 128, "
        "activation: relu}}, residual: {norms.PreNorm: {dropout: 0.1}}}}"
    )
    overrides = ("training.epochs=12", "training.threads=1", f"design={{system: i3d, size: digits, depth: {depth}}}")
    edits = f"design.edits=[{{swap: backbone.blocks.*, with: {block}}}]"
    figures["plain"] = {"accuracy": scored("spoken_digits", *overrides, edits)["metrics"]["accuracy"], "layers": depth}
    holds = dear["share"] < cheap["share"] and dear["accuracy"] >= figures["plain"]["accuracy"]
    finding = (
        f"{cheap['share']:.2f} and {dear['share']:.2f} of the layers run, {cheap['accuracy']:.4f} and {dear['accuracy']:.4f}; "
        f"{depth} plain layers {figures['plain']['accuracy']:.4f}"
    )
    return Finding(verdict(holds), finding, figures)


@evidence("deepscalelm", kind="claim", claim="48 post-norm layers learn from its start, and not from the usual one.")
def deepscalelm_deep() -> Finding:
    """The same steps; norm(x + f(x)) and Xavier's start against its residuals and its start."""
    usual = "design.edits=[{swap: backbone.blocks.*.residual, with: {norms.PostNorm: {}}}, {set: start, value: {models.Xavier: {}}}]"
    ours, theirs, baseline = loss("deepscalelm"), loss("deepscalelm", usual), trigrams_of_shakespeare()
    figures = {"deepscalelm": ours, "usual": theirs, "trigrams": baseline}
    held = ours < baseline <= theirs
    return Finding(verdict(held), f"{ours:.4f} against {theirs:.4f}; trigrams {baseline:.4f}", figures)


def _toy(rows: int, chance: random.Random) -> Tensor:
    """Strings of 32 '_' with eight equal letters at a random place, any of them '!' once in sixteen (section 4.1)."""
    found = []
    for _ in range(rows):
        at, letter = chance.randrange(25), 2 + chance.randrange(8)
        string = [0] * at + [letter] * 8 + [0] * (24 - at)
        found.append([1 if chance.random() < 1 / 16 else each for each in string])
    return torch.tensor(found)


def _speaks(model: nn.Module) -> nn.Module:
    """A decoder that has learnt toy strings."""
    objective, chance = ef.objectives.NextToken(), random.Random(0)

    def batch(step: int) -> dict[str, Tensor]:
        strings = _toy(32, chance)
        inputs = torch.cat((torch.full((32, 1), 10), strings[:, :-1]), 1)
        return {"inputs": inputs, LABELS: strings}

    return learn(model, objective, batch, 800, lr=2e-3, weight_decay=0.01)


@evidence(
    "free-transformer", kind="claim",
    claim="With some bits free, strings that are drawn with the same codes have their letters at the same place (section 4.1).",
)  # fmt: skip
def free_transformer_decides() -> Finding:
    """Toy strings: how often two that are drawn with equal codes begin their letters within two places, and by chance."""
    torch.manual_seed(0)
    figures = {}
    for name, free in (("few", 0.001), ("some", 0.5)):
        model = ef.create(
            "free-transformer", "nano", vocabulary=11, width=64, hidden=128, depth=2, heads=4, free=free, seed=0
        )
        figures[name] = _same_place(_speaks(model))
    held = figures["some"] > 2 * figures["few"]
    finding = f"{figures['some']:.2f} of the pairs with half a bit free, {figures['few']:.2f} with next to none"
    return Finding(verdict(held), finding, figures)


@torch.no_grad()
def _same_place(model: Any, pairs: int = 64) -> float:
    """Of pairs drawn with the codes of their place, the same for both, how many begin within two places."""
    drawn = torch.full((2 * pairs, 1), 10)
    for _ in range(32):
        chances = model(drawn)[:, -1].softmax(-1)
        drawn = torch.cat((drawn, torch.multinomial(chances, 1)), 1)
    begins = (drawn[:, 1:] > 1).int().argmax(1)
    return float(((begins[:pairs] - begins[pairs:]).abs() <= 2).float().mean())


def _nano(system: str) -> Design:
    """A decoder of characters of the size of nanoGPT."""
    return ef.design(system, "nano", vocabulary=shakespeare().vocabulary.size)


def _reads(design: Design, objective: Objective) -> Any:
    """A model after 1,200 steps of an objective on Shakespeare, at the rates of its recipe."""
    return learn(design.build(seed=0), objective, windows, 1200, lr=3e-3, rate=warmed(100), weight_decay=0.1, clip=1.0)


@cache
def _ahead() -> Any:
    """A model of future tokens."""
    return _reads(_nano("ftp"), FutureTokens())


@evidence("ftp", kind="learns", claim="Validation loss on Shakespeare is below an interpolated trigram model's.")
def ftp_learns() -> Finding:
    """1,200 steps of its own objective; scored is the next character."""
    ours, baseline = validation(_ahead()), trigrams_of_shakespeare()
    held = ours < baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f} nats a character", {"ftp": ours, "trigrams": baseline}
    )


@evidence(
    "ftp", kind="claim", claim="The vectors at the top change more smoothly from token to token than GPT's (section 3)."
)
def ftp_is_smooth() -> Finding:
    """The mean cosine of neighbours on the validation part; GPT of the same body after the same steps."""
    plain = _reads(_nano("gpt").set("start", _nano("ftp").get("start")), NextToken())
    inputs = shakespeare().batch("valid", list(range(64)))["inputs"]
    figures = {}
    for name, model in (("ftp", _ahead()), ("gpt", plain)):
        with torch.no_grad():
            values = model.eval().features(inputs).values
        figures[name] = float(torch.cosine_similarity(values[:, 1:], values[:, :-1], dim=-1).mean())
    return _above(figures["ftp"], figures["gpt"], "neighbours' cosine", "GPT's", figures)


def _above(ours: float, theirs: float, name: str, other: str, figures: dict[str, float]) -> Finding:
    held = ours > theirs
    return Finding(verdict(held), f"{name} {ours:.4f}, {other} {theirs:.4f}", figures)


_SMALL = {"width": 64, "hidden": 128, "heads": 4, "length": 64, "experts": 4, "repeats": 1}


@evidence(
    "brainformer", kind="claim", long=True,
    claim="Of the patterns with no more work than attention and feedforward in turn, evolution finds one with a lower loss.",
)  # fmt: skip
def brainformer_searches() -> Finding:
    """24 trials of 80 steps, validation loss the fitness; then best and plain, 400 steps each."""
    vocabulary = shakespeare().vocabulary.size

    @cache
    def cost(pattern: str) -> int:
        model = on_meta(ef.design("brainformer", vocabulary=vocabulary, pattern=pattern, **_SMALL))
        return flops(model, {"inputs": torch.zeros(1, 64, dtype=torch.long)})[""]

    @cache
    def trial(pattern: str, steps: int = 80) -> float:
        if cost(pattern) > cost("afaf"):
            return float("-inf")
        model = ef.create("brainformer", vocabulary=vocabulary, pattern=pattern, seed=0, **_SMALL)
        return -continued(model, steps=steps, lr=3e-3)

    tried = evolve("afaf", mutated, trial, trials=24, population=6, tournament=3)
    best = max(tried, key=lambda each: each.fitness).candidate
    finding = below(-trial(best, 400), -trial("afaf", 400), best, "afaf")
    return Finding(finding.verdict, finding.finding, {**finding.figures, "tried": [each.candidate for each in tried]})


def _trigrams(rows: int, chance: random.Random) -> tuple[Tensor, Tensor]:
    """Random texts of 16 of 12 words, and whether one word stands two places after another somewhere in them."""
    texts = torch.tensor([[1 + chance.randrange(12) for _ in range(16)] for _ in range(rows)])
    found = ((texts[:, :-2] == 3) & (texts[:, 2:] == 7)).any(1)
    for row in range(0, rows, 2):
        if not found[row]:
            at = chance.randrange(14)
            texts[row, at], texts[row, at + 2] = 3, 7
    return texts, ((texts[:, :-2] == 3) & (texts[:, 2:] == 7)).any(1).long()


def _on_top(head: Any, *more: Any) -> float:
    """Accuracy on new texts of layers trained on a random encoder that stays as it is."""
    design = ef.design(
        "bert", "tiny", vocabulary=13, classes=2, width=64, length=16, dropout=0.0, attention_dropout=0.0
    )
    design = design.set("backbone.blocks", (*design.get("backbone.blocks"), *more)).set("head", head)
    model = design.build(seed=0)
    model.embedding.requires_grad_(False)
    for block in list(model.backbone.blocks)[:2]:
        block.requires_grad_(False)
    chance, objective = random.Random(0), Classification()

    def batch(step: int) -> dict[str, Tensor]:
        inputs, labels = _trigrams(64, chance)
        return {"inputs": inputs, LABELS: labels}

    learn(model, objective, batch, 400, lr=2e-3, weight_decay=0.01)
    inputs, labels = _trigrams(2000, random.Random(1))
    with torch.no_grad():
        return float((model(inputs).argmax(-1) == labels).float().mean())


@evidence(
    "inceptive-transformer", kind="claim",
    claim="On an encoder that stays as it is, several widths and attention beat the class token and any one width (section 5).",
)  # fmt: skip
def inceptive_beats_one_width() -> Finding:
    """Random texts labelled by a pair of words two places apart; 400 steps on a random encoder."""
    whole = ef.design("inceptive-transformer", "tiny", vocabulary=13, classes=2, width=64, length=16, dropout=0.0)
    convolved, weighed = whole.get("backbone.blocks")[2:]
    head = whole.get("head")
    figures = {
        "several": _on_top(head, convolved, weighed),
        "class token": _on_top(ef.spec(ef.heads.ClassHead, classes=2)),
    }
    for kernel in (1, 3, 5, 7):
        figures[str(kernel)] = _on_top(
            head, convolved.but(mixer=ef.spec(ef.mixers.Inception, kernels=(kernel,))), weighed
        )
    others = {name: each for name, each in figures.items() if name != "several"}
    best = max(others, key=others.__getitem__)
    return _above(figures["several"], others[best], "several widths", f"the best of the others ({best})", figures)


@evidence(
    "inceptive-transformer",
    kind="learns",
    claim="Accuracy on AG News is above that of the class token of the same encoder.",
)
def inceptive_learns() -> Finding:
    """The ag_news recipe for one epoch, with and without the two layers more."""
    ours, plain = (
        scored("ag_news", "training.epochs=1", f"design.system={system}")["metrics"]["accuracy"]
        for system in ("inceptive-transformer", "bert")
    )
    return _above(ours, plain, "with the layers", "class token", {"inceptive": ours, "bert": plain})
