"""Evidence for designs that say what each pixel is, on CamVid."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from everyformer.costs import flops, on_meta
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import scored
from everyformer.heads import UPerHead
from everyformer.recipe import load_recipe
from everyformer.specs import spec, to_plain
from everyformer.training.compare import variants
from everyformer.training.designing import design_for

_NAMES = {
    "segformer-segmentation": "segformer", "segmenter": "segmenter", "upernet": "upernet", "transunet": "transunet",
}  # fmt: skip
_SECONDS = 60


@cache
def _whole(variant: str) -> dict[str, Any]:
    return _edited(variant)


def _edited(variant: str, *edits: dict[str, Any]) -> dict[str, Any]:
    """A design of the recipe's comparison after edits, trained for a minute."""
    design = {**variants(load_recipe("camvid"))[variant].design, "edits": list(edits)}
    return scored("camvid", f"training.seconds={_SECONDS}", design=design)


def _learns(variant: str) -> Callable[[], Finding]:
    def run() -> Finding:
        ours = _whole(variant)
        theirs, baseline = _whole("unet")["metrics"]["miou"], ours["baseline"]["miou"]
        miou = ours["metrics"]["miou"]
        held = miou > 3 * baseline
        finding = (
            f"mIoU {miou:.4f} after {_SECONDS} s, U-Net of like size {theirs:.4f}, the commonest class {baseline:.4f}"
        )
        figures = {"miou": miou, "unet": theirs, "commonest": baseline, "parameters": ours["parameters"]}
        return Finding(verdict(held), finding, figures)

    return run


for _system, _variant in _NAMES.items():
    evidence(_system, kind="learns", claim="A minute on CamVid gives three times the mIoU of the commonest class.")(
        _learns(_variant)
    )


def _above_unet(variant: str) -> Callable[[], Finding]:
    def run() -> Finding:
        ours, theirs = (_whole(each)["metrics"]["miou"] for each in (variant, "unet"))
        held = ours > theirs
        return Finding(verdict(held), f"mIoU {ours:.4f} against {theirs:.4f}", {"ours": ours, "unet": theirs})

    return run


for _system in ("segformer-segmentation", "upernet"):
    evidence(_system, kind="claim", claim="Above a U-Net of like size in the same time.")(_above_unet(_NAMES[_system]))


@evidence(
    "segmenter", kind="claim", claim="Class tokens that meet the patches are above a linear map of them (table 4)."
)
def segmenter_masks() -> Finding:
    """The same ViT with either head."""
    masks = _whole("segmenter")["metrics"]["miou"]
    edit = {"swap": "head", "with": {"heads.LinearDecoder": {"classes": 11}}}
    linear = _edited("segmenter", edit)["metrics"]["miou"]
    held = masks > linear
    return Finding(
        verdict(held), f"mIoU {masks:.4f} with class tokens, {linear:.4f} without", {"masks": masks, "linear": linear}
    )


@evidence("transunet", kind="claim", claim="Skips from the residual network raise the score (table 2).")
def transunet_skips() -> Finding:
    """All levels of the way down beside the way up, or the deepest alone."""
    skips = _whole("transunet")["metrics"]["miou"]
    none = _edited("transunet", {"set": "head.levels", "value": [3]})["metrics"]["miou"]
    held = skips > none
    return Finding(verdict(held), f"mIoU {skips:.4f} with skips, {none:.4f} without", {"skips": skips, "none": none})


@evidence(
    "segformer-segmentation", kind="claim", claim="The decoder is a small share of the cost of UPerNet's (section 3.2)."
)
def segformer_decoder_is_light() -> Finding:
    """FLOPs of both heads on the same encoder, B2 at 512 pixels."""
    ours = design_for({"system": "segformer-segmentation", "size": "b2"}, {})
    theirs = ours.swap("head", spec(UPerHead, classes=150))
    light, heavy = (flops(on_meta(each))["head"] for each in (ours, theirs))
    held = light < heavy / 2
    return Finding(
        verdict(held), f"{light / 1e9:.1f} against {heavy / 1e9:.1f} GFLOPs", {"ours": light, "upernet": heavy}
    )


_QUERIES: dict[str, Any] = {"hidden": 48, "mlp": 96, "queries": 24, "groups": 8, "dropout": 0.0}
SETS: dict[str, dict[str, Any]] = {
    "maskformer": {"system": "maskformer", "stem": 8, "convs": [1, 1, 1], "decoder_depth": 1, "heads": 4, **_QUERIES},
    "mask2former": {
        "system": "mask2former", "width": 16, "depths": [1, 1, 2], "heads": [1, 2, 4], "window": 5, "levels": 2,
        "pixel_depth": 1, "pixel_mlp": 96, "decoder_depth": 2, "decoder_heads": 4, "drop_path": 0.0, **_QUERIES,
    },
    "kmax-deeplab": {
        "system": "kmax-deeplab", "stem": 8, "convs": [1, 1, 1], "hidden": 48, "pixel_depth": 1, "pixel_mlp": 96,
        "heads": 4, "mlp": 96, "queries": 24, "depths": [1, 1], "groups": 8, "sharpness": 2.0,
        "momentum": 0.1,
    },
}  # fmt: skip
"""Small designs that say a set of masks."""
CELLS: dict[str, dict[str, Any]] = {
    "gasformer": {
        "system": "gasformer", "widths": [16, 32, 64, 96], "depths": [1, 1, 1, 1], "heads": [1, 2, 4, 4], "hidden": 64,
        "groups": 8, "drop_path": 0.0, "head_dropout": 0.0,
    },
    "dense-transformer-networks": {
        "system": "dense-transformer-networks", "widths": [16, 32, 64, 80], "warped": 2, "apart": 5,
    },
    "vpnext": {
        "system": "vpnext", "patch": 8, "width": 72, "depth": 4, "heads": 4, "replayed": [2, 3], "hidden": [32, 24],
        "inner": 16,
    },
}  # fmt: skip
"""Small designs that say the class of each cell."""
_LOSSES = {"vpnext": ("objective.of=deep pixels",)}
"""What those are trained for that are not by cross entropy of their answers alone."""
_STEPS = {
    "maskformer": 900, "mask2former": 500, "kmax-deeplab": 300, "gasformer": 500, "dense-transformer-networks": 300, "vpnext": 200,
}  # fmt: skip
"""About a minute of one thread, counted in steps, so that a busy machine changes nothing."""


@cache
def _set(system: str, of: str, head: str | None = None) -> dict[str, Any]:
    """A small design that says a set of masks on the recipe's data, a minute of one thread, by a loss `of` masks or of
    pixels; `head` is another head of the same options.
    """
    design, edits = SETS[system], []
    if head is not None:
        (options,) = to_plain(design_for(design, {"classes": 11}).get("head")).values()
        edits = [{"swap": "head", "with": {head: options}}]
    return _for_steps(design, edits, f"objective.of={of}")


def _for_steps(design: dict[str, Any], edits: list[dict[str, Any]], *overrides: str) -> dict[str, Any]:
    """A design after edits, trained for as many steps as are its system's."""
    budget = (f"training.steps={_STEPS[design['system']]}", "training.seconds=null")
    return scored("camvid", *budget, *overrides, design={**design, "edits": edits})


@cache
def _cells(system: str) -> dict[str, Any]:
    """A small design that says the class of each cell, a minute of one thread."""
    return _for_steps(CELLS[system], [], *_LOSSES.get(system, ()))


def _learns_in_steps(system: str, result: Callable[[], dict[str, Any]]) -> Callable[[], Finding]:
    def run() -> Finding:
        found = result()
        miou, baseline = found["metrics"]["miou"], found["baseline"]["miou"]
        held = miou > 3 * baseline
        finding = f"mIoU {miou:.4f} after {_STEPS[system]} steps, the commonest class {baseline:.4f}"
        return Finding(verdict(held), finding, {"miou": miou, "commonest": baseline, "parameters": found["parameters"]})

    return run


for _system, _result in {
    "maskformer": partial(_set, "maskformer", "masks"),
    "mask2former": partial(_set, "mask2former", "binary masks"),
    "kmax-deeplab": partial(_set, "kmax-deeplab", "clusters"),
    **{system: partial(_cells, system) for system in CELLS},
}.items():
    evidence(_system, kind="learns", claim="A minute on CamVid gives three times the mIoU of the commonest class.")(
        _learns_in_steps(_system, _result)
    )


@evidence(
    "maskformer", kind="claim", claim="A loss of matched masks is above a loss of pixels, on one design (table 4)."
)
def maskformer_above_pixels() -> Finding:
    """The same queries and maps, whose answer is trained pixel by pixel, no query matched with a class."""
    masks, pixels = (_set("maskformer", of)["metrics"]["miou"] for of in ("masks", "pixels"))
    held = masks > pixels
    return Finding(verdict(held), f"mIoU {masks:.4f} against {pixels:.4f}", {"masks": masks, "pixels": pixels})


@evidence(
    "mask2former",
    kind="claim",
    claim="Looking only inside the masks is above looking at all cells, in as many steps (table 4).",
)
def mask2former_masked() -> Finding:
    """The same queries, each of which looks at the whole map."""
    masked = _set("mask2former", "binary masks")["metrics"]["miou"]
    whole = _set("mask2former", "binary masks", "heads.LevelQueries")["metrics"]["miou"]
    held = masked > whole
    return Finding(verdict(held), f"mIoU {masked:.4f} against {whole:.4f}", {"masked": masked, "all cells": whole})


@evidence("kmax-deeplab", kind="claim", claim="k-means is above cross-attention in its place, in as many steps.")
def kmax_clusters() -> Finding:
    """The same steps, in which every query takes a softmax over all cells."""
    hard = _set("kmax-deeplab", "clusters")["metrics"]["miou"]
    soft = _set("kmax-deeplab", "clusters", "heads.SoftClusterQueries")["metrics"]["miou"]
    held = hard > soft
    return Finding(verdict(held), f"mIoU {hard:.4f} against {soft:.4f}", {"k-means": hard, "cross-attention": soft})


def _against(system: str, others: dict[str, dict[str, Any]], *overrides: str) -> Finding:
    """A small design against itself after each of some edits, by what they are called, in as many steps."""
    ours = _cells(system)["metrics"]["miou"]
    losses = overrides or _LOSSES.get(system, ())
    found = {
        name: _for_steps(CELLS[system], [edit] if edit else [], *losses)["metrics"]["miou"]
        for name, edit in others.items()
    }
    told = ", ".join(f"{miou:.4f} {name}" for name, miou in found.items())
    return Finding(verdict(ours > max(found.values())), f"mIoU {ours:.4f} against {told}", {"ours": ours, **found})


@evidence("gasformer", kind="claim", claim="Above SegFormer's decoder on the same encoder, in as many steps.")
def gasformer_above_segformer() -> Finding:
    """The factorisation, or linear maps alone."""
    return _against(
        "gasformer", {"with linear maps": {"swap": "head", "with": {"heads.MLPDecoder": {"classes": 11, "hidden": 64}}}}
    )


@evidence("gasformer", kind="claim", claim="The factorisation is above attention in its place (Geng et al., 2021).")
def gasformer_above_attention() -> Finding:
    """Attention among the cells of the finest grid, in the place of the factorisation."""
    return _against("gasformer", {"with attention": {"swap": "head.mixer", "with": {"mixers.Attention": {"heads": 4}}}})


@evidence("dense-transformer-networks", kind="claim", claim="Above the U-Net that it bends, in as many steps.")
def dense_transformer_above_unet() -> Finding:
    """The same U-Net, no level of it bent."""
    straight = {"swap": "backbone.stages.2.enter", "with": {"backbones.ConvPair": {"stride": 2}}}
    return _against("dense-transformer-networks", {"of straight maps": straight})


@evidence("vpnext", kind="claim", claim="The ViT's own finer patches beside the way up raise the score.")
def vpnext_finer_patches() -> Finding:
    """The same steps up, nothing beside them."""
    return _against("vpnext", {"without": {"set": "head.head.levels", "value": [-1]}})


@evidence(
    "vpnext", kind="claim", claim="Replaying the last level's view while learning raises the score, at no cost in use."
)
def vpnext_replay() -> Finding:
    """The same design, the loss of its answers alone."""
    return _against("vpnext", {"without": {}}, "objective.of=pixels")
