"""Evidence for pyramids: they learn digits, and what their papers say of cost and of mixers."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.data import find_task
from everyformer.designs import Design
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import arrays, logistic_regression
from everyformer.recipe import load_recipe
from everyformer.training import train

_WIDTHS: dict[str, Any] = {"widths": [32, 64], "depths": [1, 1]}
_HEADS: dict[str, Any] = {**_WIDTHS, "heads": [2, 4]}
_SPATIAL: dict[str, Any] = {**_HEADS, "reductions": [2, 1]}
_WINDOWS: dict[str, Any] = {"width": 32, "depths": [2, 1], "heads": [2, 4], "window": 4}
SMALL: dict[str, dict[str, Any]] = {
    "caformer": {**_WIDTHS, "head_width": 16},
    "coat": {**_WIDTHS, "heads": 8, "ratios": [2, 2], "layers": 1},
    "convformer": _WIDTHS,
    "convnext": {**_WIDTHS, "scale": 0.1},
    "cvt": _HEADS,
    "ecoformer": {"widths": [48, 96], "depths": [1, 1], "heads": [2, 4], "ratios": [4, 4]},
    "hiera": {"width": 32, "heads": 2, "depths": [1, 1], "unit": 4, "local": 1, "ratio": 2.0},
    "hornet": {"width": 32, "depths": [1, 1], "orders": [2, 3], "ratio": 2.0, "scale": 0.1},
    "identityformer": _WIDTHS,
    "lit": {**_HEADS, "ratios": [2, 2], "attending": 1},
    "maxvit": {**_WIDTHS, "stem": 32, "head_width": 16, "window": 4},
    "pit": {"width": 32, "depths": [1, 1], "heads": [2, 4], "patch": 8, "stride": 4},
    "poolformer": {**_WIDTHS, "scale": 0.1},
    "pvt": {**_SPATIAL, "ratios": [2, 2]},
    "pvt-v2": {**_SPATIAL, "ratios": [2, 2]},
    "randformer": _WIDTHS,
    "rmt": {**_HEADS, "ratios": [2, 2], "reaches": [4, 6], "scales": [None, None], "axial": 1, "hidden": 128},
    "segformer": {**_SPATIAL, "ratio": 2},
    "swin": _WINDOWS,
    "swin-v2": _WINDOWS,
    "twins": {**_SPATIAL, "depths": [2, 1], "ratios": [2, 2], "window": 4},
    "vit-resnas": {
        "patch": 4,
        "middle": 16,
        "widths": [32, 64],
        "heads": [[2], [4]],
        "head_widths": [16, 16],
        "hidden": [[64], [128]],
    },
}
"""Each with two stages, on grids of 8x8 and 4x4."""
SLOW = {"coat", "hornet", "lit", "pit", "poolformer", "pvt", "swin", "swin-v2", "twins", "vit-resnas"}
"""Those that ten epochs do not bring above logistic regression; how many do was seen on the validation part, of two of them."""


def result(system: str, epochs: int = 10, **more: Any) -> dict[str, Any]:
    """So many epochs of the digits recipe, the pictures four times as wide and high, with a small pyramid."""
    recipe = load_recipe("digits", ("data.image=32", f"training.epochs={epochs}"))
    recipe = dataclasses.replace(recipe, design={"system": system, **SMALL[system], **more})
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, folder, overwrite=True, progress=False).result


def _learns(system: str, epochs: int) -> Callable[[], Finding]:
    said = {10: "ten", 80: "eighty"}[epochs]

    def run() -> Finding:
        ours = result(system, epochs)
        baseline = logistic_regression(*arrays(find_task("image-classification").open(**load_recipe("digits").data)))
        accuracy = ours["metrics"]["accuracy"]
        held = accuracy > baseline
        finding = f"{accuracy:.4f} ({ours['parameters']:,} parameters, {said} epochs) against {baseline:.4f}"
        return Finding(verdict(held), finding, {"accuracy": accuracy, "logistic_regression": baseline})

    claim = f"Test accuracy on digits after {said} epochs is above logistic regression on pixels."
    return evidence(system, kind="learns", claim=claim)(run)


for _system in SMALL:
    _learns(_system, 80 if _system in SLOW else 10)


def _exponent(design: Design) -> float:
    """The power of the area with which the cost grows from 448 to 896 pixels a side."""
    model = on_meta(design)
    few, many = (flops(model, model.embedding.example(1, size))[""] for size in (448, 896))
    return math.log(many / few, 4)


def _linear(system: str) -> Callable[[], Finding]:
    def run() -> Finding:
        ours, vit = _exponent(ef.design(system)), _exponent(ef.design("vit", "small", image=448))
        held = abs(ours - 1) < 0.01 < vit - 1
        figures = {"exponent": ours, "exponent of vit": vit}
        return Finding(verdict(held), f"cost grows with area^{ours:.4f}; that of vit with area^{vit:.3f}", figures)

    return run


for _system in ("coat", "convnext", "maxvit", "poolformer", "swin", "swin-v2", "xcit"):
    evidence(_system, kind="claim", claim="The cost is linear in the area of the picture.")(_linear(_system))


def _reduced(system: str) -> Callable[[], Finding]:
    def run() -> Finding:
        design = ef.design(system)
        full = design
        for path in design.find("backbone.stages.*.blocks.*.mixer"):
            mixer = design.get(path)
            if mixer.part is ef.mixers.ReducedAttention:
                full = full.swap(path, ef.spec(ef.mixers.Attention, heads=mixer.get("heads")))
        ours, theirs = (flops(on_meta(each))[""] for each in (design, full))
        held = ours < theirs / 2
        finding = (
            f"{ours / 1e9:.2f} GFLOPs for a picture of 224 pixels, {theirs / 1e9:.2f} with attention to every cell"
        )
        return Finding(verdict(held), finding, {"reduced": ours, "full": theirs})

    return run


for _system in ("pvt", "pvt-v2", "segformer", "twins"):
    evidence(_system, kind="claim", claim="Attention to a coarser map at least halves the cost of the whole model.")(
        _reduced(_system)
    )


@evidence("poolformer", kind="claim", claim="Pooling is above no mixing and within 3 points of attention (table 5).")
def poolformer_mixers() -> Finding:
    """The same block with no mixer, with pooling and with attention."""
    mixers = "backbone.stages.*.blocks.*.mixer"
    edits: dict[str, list[dict[str, Any]]] = {
        "none": [{"remove": mixers}],
        "pooling": [],
        "attention": [{"swap": mixers, "with": {"mixers.Attention": {"heads": 4}}}],
    }
    figures = {name: result("poolformer", edits=each)["metrics"]["accuracy"] for name, each in edits.items()}
    holds = figures["none"] < figures["pooling"] > figures["attention"] - 0.03
    finding = ", ".join(f"{name} {accuracy:.4f}" for name, accuracy in figures.items())
    return Finding(verdict(holds), finding, figures)


def _above(one: str, other: str, margin: float = 0.0) -> Finding:
    """Two systems by the same recipe; the first may be below the other by `margin`."""
    figures = {name: result(name)["metrics"]["accuracy"] for name in (one, other)}
    held = figures[one] > figures[other] - margin
    return Finding(verdict(held), f"{figures[one]:.4f} against {figures[other]:.4f} of {other}", figures)


for _one, _other, _margin, _claim in (
    ("identityformer", "caformer", 0.1, "Without any mixing it is within 10 points of CAFormer (tables 4 and 5)."),
    ("randformer", "identityformer", 0.0, "Random mixing in the last two stages is above no mixing (table 4)."),
    ("convformer", "convnext", 0.0, "MetaFormer with plain separable convolutions is above ConvNeXt (table 5)."),
    ("caformer", "convformer", 0.0, "Attention in the last stages is above convolutions in all (table 5)."),
):
    evidence(_one, kind="claim", claim=_claim)(partial(_above, _one, _other, _margin))


@evidence("hornet", kind="claim", claim="At a similar size it is above Swin and ConvNeXt (section 4.1).")
def hornet_against_others() -> Finding:
    """Two stages of one block each, ten epochs."""
    results = {system: result(system) for system in ("hornet", "swin", "convnext")}
    figures = {system: each["metrics"]["accuracy"] for system, each in results.items()}
    held = figures["hornet"] > max(figures["swin"], figures["convnext"])
    finding = ", ".join(
        f"{system} {figures[system]:.4f} ({each['parameters']:,} parameters)" for system, each in results.items()
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "hiera", kind="claim", claim="Attention inside units costs less than attention to all, for no accuracy (table 1)."
)
def hiera_units() -> Finding:
    """Ten epochs with the first stage in units and with none; the cost is that of the published base at 224 pixels."""
    local, whole = result("hiera")["metrics"]["accuracy"], result("hiera", local=0)["metrics"]["accuracy"]
    costs = [flops(on_meta(ef.design("hiera", local=stages)))[""] for stages in (2, 0)]
    held = local >= whole - 0.01 and costs[0] < costs[1]
    finding = f"{local:.4f} in units, {whole:.4f} in none; {costs[0] / 1e9:.1f} GFLOPs against {costs[1] / 1e9:.1f}"
    return Finding(verdict(held), finding, {"units": local, "all": whole, "flops": costs})


@evidence("cvt", kind="claim", claim="Without any positions CvT is above a ViT without positions (table 5).")
def cvt_positions() -> Finding:
    """The same recipe; the ViT has patches of the same grid."""
    ours = result("cvt")["metrics"]["accuracy"]
    recipe = load_recipe("digits", ("data.image=32", "training.epochs=10", "design.system=vit", "design.patch=4"))
    recipe.design["edits"] = [{"remove": "embedding.positions"}]
    with tempfile.TemporaryDirectory() as folder:
        vit = train(recipe, folder, overwrite=True, progress=False).result["metrics"]["accuracy"]
    held = ours > vit
    return Finding(verdict(held), f"{ours:.4f} against {vit:.4f}", {"cvt": ours, "vit without positions": vit})


@evidence("pit", kind="claim", claim="Stages with pooling are above a ViT of one grid at no more cost (table 4).")
def pit_pooling() -> Finding:
    """A ViT of the first stage's width and grid, with as many blocks as cost most without being more."""
    ours = result("pit")
    vit_options = {"system": "vit", "patch": 4, "width": 32, "depth": 3, "heads": 2, "ratio": 4.0}
    cost = flops(on_meta(ef.design("pit", image=32, classes=10, channels=1, **SMALL["pit"])))[""]
    plain = {key: value for key, value in vit_options.items() if key != "system"}
    theirs = flops(on_meta(ef.design("vit", image=32, classes=10, channels=1, **plain)))[""]
    recipe = load_recipe("digits", ("data.image=32", "training.epochs=10"))
    recipe = dataclasses.replace(recipe, design=vit_options)
    with tempfile.TemporaryDirectory() as folder:
        vit = train(recipe, folder, overwrite=True, progress=False).result["metrics"]["accuracy"]
    accuracy = ours["metrics"]["accuracy"]
    held = accuracy > vit and cost <= theirs
    finding = f"{accuracy:.4f} for {cost / 1e6:.1f} MFLOPs, ViT {vit:.4f} for {theirs / 1e6:.1f}"
    return Finding(verdict(held), finding, {"pit": accuracy, "vit": vit, "flops": cost, "flops of vit": theirs})


def _against(system: str, name: str, **changes: Any) -> Finding:
    """The system and the same with `changes`, which are not to be better."""
    figures = {"whole": result(system)["metrics"]["accuracy"], name: result(system, **changes)["metrics"]["accuracy"]}
    held = figures["whole"] > figures[name]
    return Finding(verdict(held), f"{figures['whole']:.4f}, {name} {figures[name]:.4f}", figures)


_DECAY = {"set": "backbone.stages.*.blocks.*.blocks.1.mixer.positions", "value": None}
_MERGE = {"swap": "backbone.stages.1.enter", "with": {"backbones.ConvMerging": {"norm": {"norms.BatchNorm": {}}}}}
_POOL = {"swap": "backbone.stages.1.enter", "with": {"backbones.DepthwiseMerging": {}}}
evidence(
    "rmt", kind="claim", claim="With the decay by distance it is above attention without (section 4.5, ablations)."
)(partial(_against, "rmt", "without decay", edits=[_DECAY]))
evidence(
    "lit", kind="claim", claim="Merging that looks where it is told to is above a strided convolution (section 4.2)."
)(partial(_against, "lit", "with a strided convolution", edits=[_MERGE]))
evidence("vit-resnas", kind="claim", claim="Merging with a residual is above merging without (section 3.1).")(
    partial(_against, "vit-resnas", "without a residual", edits=[_POOL])
)


@evidence("lit", kind="claim", claim="No attention in the early stages costs less, for no accuracy (section 4.2).")
def lit_attends_late() -> Finding:
    """Attention in the last stage alone, and in both."""
    late, both = result("lit")["metrics"]["accuracy"], result("lit", attending=2)["metrics"]["accuracy"]
    costs = [flops(on_meta(ef.design("lit", attending=stages)))[""] for stages in (2, 4)]
    held = late >= both - 0.01 and costs[0] < costs[1]
    finding = (
        f"{late:.4f}, with attention in all stages {both:.4f}; {costs[0] / 1e9:.1f} GFLOPs against {costs[1] / 1e9:.1f}"
    )
    return Finding(verdict(held), finding, {"late": late, "all": both, "flops": costs})
