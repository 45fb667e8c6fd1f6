"""Evidence for how a picture is cut into tokens and how these know where they stand."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import flops, on_meta
from everyformer.data import find_task
from everyformer.data.tasks.anomaly import area_under_curve
from everyformer.designs import design_of
from everyformer.edits import insert
from everyformer.evidence.descent import descend, learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import scored, trained
from everyformer.interpret import record
from everyformer.objectives import RewardedPruning
from everyformer.recipe import load_recipe
from everyformer.reduction import Interpreter, expedite
from everyformer.specs import spec
from everyformer.tokens import Tokens

NOTHING = 10
"""The class of a cell in which no digit stands."""


@evidence(
    "cpvt", kind="claim", claim="On larger pictures than it learnt from it loses less than with learned positions."
)
def cpvt_sizes() -> Finding:
    """Digits of 16 pixels learnt, digits of 24 asked for; learned positions are stretched to the larger grid."""
    short = ("data.image=16", "design.patch=2", "training.epochs=15")
    larger = find_task("image-classification").open(**{**load_recipe("digits").data, "image": 24})
    figures = {}
    for name in ("cpvt", "vit"):
        with trained("digits", f"design.system={name}", *short) as run:
            far = larger.evaluate(run.model, "test").metrics["accuracy"]
            figures[name] = {"16 pixels": run.result["metrics"]["accuracy"], "24 pixels": far}
    lost = {name: each["16 pixels"] - each["24 pixels"] for name, each in figures.items()}
    held = lost["cpvt"] < lost["vit"]
    finding = (
        f"from 16 to 24 pixels {-100 * lost['cpvt']:+.1f} points, with learned positions {-100 * lost['vit']:+.1f}"
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "t2t-vit", kind="claim", claim="Tokens from overlapping windows that attend are better than patches (section 4.1)."
)
def t2t_against_patches() -> Finding:
    """Digits at 32 pixels, 16 tokens, the same body."""
    same = ("data.image=32", "training.epochs=15")
    splits = "design.splits=[[7,4,2],[3,2,1]]"
    ours = scored("digits", *same, "design.system=t2t-vit", splits, "design.narrow=32")
    theirs = scored("digits", *same, "design.system=vit", "design.patch=8")
    figures = {"t2t-vit": ours["metrics"]["accuracy"], "vit": theirs["metrics"]["accuracy"]}
    held = figures["t2t-vit"] > figures["vit"]
    counts = f"{ours['parameters']:,} and {theirs['parameters']:,} parameters"
    return Finding(verdict(held), f"{figures['t2t-vit']:.4f} against {figures['vit']:.4f}; {counts}", figures)


class Canvases:
    """Pictures of 32 x 32 pixels, empty but for some handwritten digits at random places."""

    def __init__(self, digits: int, seed: int = 0) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        self.images = torch.from_numpy(found.images / 16).float()
        self.classes = torch.from_numpy(found.target)
        self.digits, self.generator = digits, torch.Generator().manual_seed(seed)

    def draw(self, count: int, *, test: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 1, 32, 32), the class of the last digit of each (B,), and that of each cell of 2 x 2 pixels (B, 256)."""
        low, high = (1400, len(self.images)) if test else (0, 1400)
        chosen = torch.randint(low, high, (count, self.digits), generator=self.generator)
        corners = torch.randint(0, 25, (count, self.digits, 2), generator=self.generator)
        pictures = torch.zeros(count, 32, 32)
        pixels = torch.full((count, 32, 32), NOTHING)
        for picture, marked, digits, places in zip(pictures, pixels, chosen, corners.tolist(), strict=True):
            for digit, (y, x) in zip(digits, places, strict=True):
                picture[y : y + 8, x : x + 8] = self.images[digit]
                marked[y : y + 8, x : x + 8] = torch.where(self.images[digit] > 0.2, self.classes[digit], NOTHING)
        cells = pixels.unflatten(1, (16, 2)).unflatten(3, (16, 2)).amin((2, 4))
        return pictures[:, None], self.classes[chosen[:, -1]], cells.flatten(1)

    def teach(self, model: nn.Module, steps: int, batch: int, *, cells: bool = False, lr: float = 2e-3) -> nn.Module:
        """Train on fresh pictures to say the class, or that of each cell."""

        def loss(step: int) -> Tensor:
            pictures, classes, marked = self.draw(batch)
            said = model(pictures)
            return F.cross_entropy(said.flatten(0, 1), marked.flatten()) if cells else F.cross_entropy(said, classes)

        return descend(model, loss, steps, lr=lr, rate=warmed(50), weight_decay=0.01)


@evidence(
    "hypothesis-b",
    kind="claim",
    claim="At an equal count of tokens patches that follow the picture beat a uniform grid.",
)
def quadtree_against_grid() -> Finding:
    """One digit on a canvas, 16 tokens: a quadtree of 16 to 4 pixels, and patches of 8."""
    body: dict[str, Any] = {
        "image": 32, "channels": 1, "classes": 10, "width": 64, "depth": 3, "heads": 4, "ratio": 2.0, "seed": 0,
    }  # fmt: skip
    models = {
        "quadtree": ef.create("hypothesis-b", patch=16, smallest=4, tokens=16, **body),
        "grid": ef.create("vit", patch=8, **body),
    }
    figures = {}
    for name, model in models.items():
        Canvases(1).teach(model, 1500, 64)
        pictures, classes, _ = Canvases(1, seed=1).draw(1000, test=True)
        with torch.no_grad():
            figures[name] = float((model(pictures).argmax(-1) == classes).float().mean())
    held = figures["quadtree"] > figures["grid"]
    return Finding(verdict(held), f"{figures['quadtree']:.4f} against {figures['grid']:.4f}", figures)


@evidence(
    "expedit",
    kind="claim",
    claim="In a trained model for dense prediction, a quarter of the tokens in most blocks costs little accuracy, less than "
    "pooling and interpolation do (section 4).",
)
def expedit_against_pooling() -> Finding:
    """The class of each cell of canvases with three digits, four blocks, the last three on a quarter of the tokens."""
    design = ef.design("vit", image=32, patch=2, channels=1, width=64, depth=4, heads=4, ratio=2.0)
    model = design.swap("head", ef.spec(ef.heads.CellHead, outputs=NOTHING + 1)).build(seed=0)
    Canvases(3).teach(model, 500, 16, cells=True)
    made = expedite(model, after=1)
    pictures, _, cells = Canvases(3, seed=1).draw(200, test=True)
    with torch.no_grad():
        answers = {"whole": model(pictures), "clustered": made(pictures), "pooled": _pooled(model, pictures, after=1)}
    figures = {name: _overlap(each.argmax(-1), cells) for name, each in answers.items()}
    costs = [flops(on_meta(design_of(each)))[""] for each in (model, made)]
    lost = {name: figures["whole"] - each for name, each in figures.items()}
    holds = lost["clustered"] < min(0.1, lost["pooled"]) and costs[1] < costs[0]
    finding = ", ".join(f"{name} {each:.3f}" for name, each in figures.items())
    finding = f"mean overlap {finding}; {costs[1] / costs[0]:.0%} of the FLOPs"
    return Finding(verdict(holds), finding, {**figures, "flops": costs})


def _pooled(model: Any, pictures: Tensor, after: int) -> Tensor:
    """The model's answer where blocks from `after` on see a grid pooled to half its sides, interpolated after the last."""
    tokens = model.embedding(pictures, Context())
    for block in model.backbone.blocks[:after]:
        tokens = block(tokens, Context())
    lead, (height, width) = tokens.prefix, tokens.grid
    grid = tokens.values[:, lead:].mT.unflatten(2, (height, width))
    few = F.avg_pool2d(grid, 2)
    coarse = Tokens(torch.cat((tokens.values[:, :lead], few.flatten(2).mT), 1), prefix=lead)
    for block in model.backbone.blocks[after:]:
        coarse = block(coarse, Context())
    few = coarse.values[:, lead:].mT.unflatten(2, few.shape[2:])
    back = F.interpolate(few, (height, width), mode="bilinear").flatten(2).mT
    tokens = tokens.update(torch.cat((coarse.values[:, :lead], back), 1))
    return model.head(tokens.update(model.backbone.norm(tokens.values)))


def _overlap(said: Tensor, true: Tensor) -> float:
    """Intersection over union, the mean of all classes."""
    shares = []
    for each in range(NOTHING + 1):
        both, either = (said == each) & (true == each), (said == each) | (true == each)
        shares.append(float(both.sum() / either.sum().clamp(min=1)))
    return sum(shares) / len(shares)


@cache
def _interpreted() -> dict[str, float]:
    """A digit on a noisy canvas, learned by a ViT; then interpreters before each of its three blocks, by reward."""
    shape = {"image": 32, "patch": 4, "channels": 1, "classes": 10, "width": 64, "depth": 3, "heads": 4, "ratio": 2.0}
    canvases, noise = Canvases(1), torch.Generator().manual_seed(0)

    def noisy(count: int, *, test: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        pictures, classes, cells = canvases.draw(count, test=test)
        marked = cells.unflatten(1, (8, 2, 8, 2)).amin((2, 4)).flatten(1) < NOTHING
        return pictures + 0.1 * torch.randn(pictures.shape, generator=noise), classes, marked

    plain: Any = ef.create("vit", **shape, seed=0)

    def said(step: int) -> Tensor:
        pictures, classes, _ = noisy(64)
        return F.cross_entropy(plain(pictures), classes)

    descend(plain, said, 1000, lr=2e-3, rate=warmed(50), weight_decay=0.01)
    model = copy.deepcopy(plain)
    for at in (2, 1, 0):
        insert(model, f"backbone.blocks.{at}", spec(Interpreter, heads=4), seed=at)
    objective = RewardedPruning()

    def rewarded(step: int) -> dict[str, Tensor]:
        pictures, classes, _ = noisy(64)
        return {"inputs": pictures, "labels": classes}

    torch.manual_seed(0)
    learn(model, objective, rewarded, 600, lr=1e-3, rate=warmed(50), weight_decay=0.01)
    pictures, classes, marked = noisy(1000, test=True)
    with torch.no_grad(), record(plain, "backbone.blocks.*.mixer.weights") as seen:
        before = (plain(pictures).argmax(-1) == classes).float().mean()
    context = Context(notes={})
    with torch.no_grad():
        after = (model.head(model.features(pictures, context=context), context).argmax(-1) == classes).float().mean()
        first = model.backbone.blocks[0]
        chances = first.scores(model.embedding(pictures), Context())[:, 1:]
    assert context.notes is not None
    looks = torch.stack([weights[:, :, 0, 1:].mean(1) for weights in seen.values()]).mean(0)
    return {
        "vit": float(before),
        "ia-red2": float(after),
        "left": float(context.notes["left 2"].mean() * context.notes["left 1"].mean() * context.notes["left 0"].mean()),
        "area under curve": area_under_curve(chances, marked),
        "area under curve of class attention": area_under_curve(looks, marked),
    }


@evidence("ia-red2", kind="claim", claim="Most patches go for less than 0.7 points, and its maps beat raw attention.")
def interpreters_find_the_digit() -> Finding:
    """One digit on a canvas of 64 patches with noise: the share left after the last decision, and what finds the digit."""
    figures = _interpreted()
    holds = (
        figures["left"] < 0.6
        and figures["vit"] - figures["ia-red2"] < 0.01
        and figures["area under curve"] > max(0.8, figures["area under curve of class attention"])
    )
    finding = (
        f"{figures['left']:.0%} of the patches left, {figures['ia-red2']:.4f} against {figures['vit']:.4f}; the digit is found "
        f"with {figures['area under curve']:.3f}, by attention with {figures['area under curve of class attention']:.3f} (AUC)"
    )
    return Finding(verdict(holds), finding, figures)


@evidence("ia-red2", kind="learns", claim="Trained to drop patches it is far above the most frequent class.")
def ia_red2_learns() -> Finding:
    """The same pictures; a tenth of them is of the most frequent class."""
    figures = _interpreted()
    held = figures["ia-red2"] > 0.5
    return Finding(verdict(held), f"{figures['ia-red2']:.4f} against 0.1", figures)
