"""Evidence for transformers of pictures that keep one grid from end to end, on scikit-learn's handwritten digits."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch

from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.pictures import LONGER, against_logistic_regression
from everyformer.evidence.runs import over_seeds, scored, trained
from everyformer.recipe import load_recipe
from everyformer.registry import find_system

CUT: dict[str, dict[str, Any]] = {
    "2d-ssm": {"patch": 2},
    "beit": {"patch": 2, "scale": 1},
    "cait": {"patch": 2, "scale": 1},
    "convmixer": {"patch": 1, "depth": 4, "kernel": 3},
    "cpvt": {"patch": 2},
    "crossvit": {"patches": [2, 4], "small_image": 8, "narrow": 32, "stages": 2, "depth": 1},
    "deit": {"patch": 2},
    "dinov2": {"patch": 2, "scale": 1},
    "gmm-mask-attention": {"patch": 2},
    "hypothesis-b": {"patch": 4, "smallest": 1, "tokens": 40},
    "mlp-mixer": {"patch": 2},
    "patternformer": {"stages": [16, 32], "patterns": 32, "side": 4},
    "shift-equivariant-vit": {"patch": 2},
    "siglip": {"patch": 2},
    "supervised-mim": {"patch": 2},
    "t2t-vit": {"splits": [[3, 2, 1]], "narrow": 32},
    "three-things-vit": {"strides": [2], "depth": 1, "scale": 1},
    "tnt": {"patch": 2, "stride": 1, "word_width": 8, "word_heads": 2},
    "vikanformer": {"patch": 2, "ratio": 0.5},
    "vit": {"patch": 2},
    "vit-registers": {"patch": 2},
    "xcit": {"patch": 2},
}
"""How each cuts up a picture of 8x8 pixels. The recipe gives all the same width, heads and, unless said here, depth."""
SLOW = {
    "beit", "cait", "cpvt", "dinov2", "gmm-mask-attention", "hypothesis-b", "shift-equivariant-vit", "siglip", "supervised-mim",
    "three-things-vit", "vit-registers",
}  # fmt: skip
"""Those that the recipe's forty epochs do not bring above logistic regression."""
SEEDS = 1


def design_of(system: str, **options: Any) -> dict[str, Any]:
    """The design of the digits recipe for a system: what it takes of the recipe's sizes, its cut, and `options`."""
    takes = inspect.signature(find_system(system).make).parameters
    same = {name: value for name, value in load_recipe("digits").design.items() if name in takes}
    return {**same, "system": system, **CUT[system], **options}


def learns(system: str) -> Finding:
    """One seed against logistic regression, of three times the recipe's epochs for those that are slow."""
    longer = LONGER if system in SLOW else ()
    return against_logistic_regression(*longer, seeds=SEEDS, design=design_of(system))


for _name in sorted(CUT.keys() - {"vit"}):
    evidence(_name, kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")(
        partial(learns, _name)
    )


def compared(designs: dict[str, dict[str, Any]], *overrides: str, seeds: int = SEEDS) -> dict[str, Any]:
    """The figures of several designs on the digits recipe."""
    return {name: over_seeds("digits", *overrides, seeds=seeds, design=each) for name, each in designs.items()}


def said(figures: dict[str, Any]) -> str:
    """The means in one line."""
    return ", ".join(f"{name} {each['mean']:.4f}" for name, each in figures.items())


@evidence(
    "deit",
    kind="claim",
    claim="Told the decisions of a convolutional teacher, the student is above one told the labels alone (table 3).",
)
def deit_is_taught() -> Finding:
    """A fifth of the digits; the teacher is a CCT that learnt from the same fifth."""
    few = ("data.fractions=[0.2,0.6,0.2]", "training.epochs=60")
    with trained("digits", *few) as teacher:
        told = (f"objective.teacher={teacher.folder}", "objective.told=decision")
        alone = scored("digits", *few, design=design_of("vit"))["metrics"]["accuracy"]
        taught = scored("digits", *few, *told, design=design_of("deit"))["metrics"]["accuracy"]
        best = teacher.result["metrics"]["accuracy"]
    held = taught > alone
    return Finding(
        verdict(held),
        f"{taught:.4f} taught, {alone:.4f} alone, the teacher {best:.4f}",
        {"taught": taught, "alone": alone},
    )


@evidence("cait", kind="claim", claim="A deep model is better with small LayerScale than without (table 1).")
def cait_goes_deep() -> Finding:
    """Twelve layers, a scale that starts at 1e-4 and one that starts at 1."""
    scales = {"small": 1e-4, "one": 1.0}
    designs = {name: design_of("cait", depth=12, scale=scale) for name, scale in scales.items()}
    figures = compared(designs, "training.epochs=20")
    held = figures["small"]["mean"] > figures["one"]["mean"]
    return Finding(verdict(held), said(figures), figures)


@evidence("crossvit", kind="claim", claim="Two branches are better than either alone (table 7).")
def crossvit_needs_both() -> Finding:
    """Against a ViT with the patches and the width of each branch, depth as both stages together."""
    figures = compared(
        {
            "both": design_of("crossvit"),
            "small patches": design_of("vit", ratio=3, width=32),
            "large patches": design_of("vit", ratio=3, patch=4),
        }
    )
    best = max(figures["small patches"]["mean"], figures["large patches"]["mean"])
    held = figures["both"]["mean"] > best
    return Finding(verdict(held), said(figures), figures)


@evidence("patternformer", kind="claim", claim="Patterns are better tokens than patches at equal parameters (table 1).")
def patternformer_beats_patches() -> Finding:
    """Against a ViT that is wider by as much as the convolutions take."""
    figures = compared(
        {
            "patterns": design_of("patternformer"),
            "patches": design_of("vit", width=80),
        }
    )
    held = figures["patterns"]["mean"] > figures["patches"]["mean"]
    counts = ", ".join(f"{each['parameters']:,}" for each in figures.values())
    return Finding(verdict(held), f"{said(figures)}; {counts} parameters", figures)


@evidence("three-things-vit", kind="claim", claim="Half the depth in two branches is as good as the whole (figure 2).")
def parallel_is_as_good() -> Finding:
    """Two blocks of two branches and four of one, after the same stem: within a point."""
    shapes = {"2x2": (2, 2), "4x1": (4, 1)}
    figures = compared(
        {name: design_of("three-things-vit", depth=depth, branches_each=each) for name, (depth, each) in shapes.items()}
    )
    held = figures["2x2"]["mean"] > figures["4x1"]["mean"] - 0.01
    return Finding(verdict(held), said(figures), figures)


@evidence(
    "vikanformer",
    kind="claim",
    claim="SineKAN, FastKAN and KAN are past 97 % on handwritten digits, and slower to train than an MLP (table 1).",
)
def kans_and_mlp() -> Finding:
    """Every kind of edge and the MLP, one seed each; scikit-learn's digits in the place of MNIST."""
    kinds = {kind: design_of("vikanformer", kind=kind) for kind in ("spline", "radial", "sine", "fourier")}
    figures = compared({**kinds, "mlp": design_of("vit")}, "training.epochs=12")
    past = all(figures[kind]["mean"] > 0.97 for kind in ("spline", "radial", "sine"))
    slower = all(figures[kind]["seconds"] > figures["mlp"]["seconds"] for kind in kinds)
    held = past and slower
    seconds = ", ".join(f"{name} {each['seconds']:.0f} s" for name, each in figures.items())
    return Finding(verdict(held), f"{said(figures)}; {seconds}", figures)


@evidence("gmm-mask-attention", kind="claim", claim="On small data the masks raise a ViT (abstract).")
def masks_raise_a_vit() -> Finding:
    """The same design with masks and without, a fifth of the digits."""
    plain = design_of("gmm-mask-attention", edits=[{"set": "backbone.blocks.*.mixer.steps", "value": []}])
    designs = {"masks": design_of("gmm-mask-attention"), "without": plain}
    figures = compared(designs, "data.train_share=0.2", seeds=3)
    held = figures["masks"]["mean"] > figures["without"]["mean"]
    return Finding(verdict(held), said(figures), figures)


@evidence("mlp-mixer", kind="claim", claim="Without attention it is competitive: within 2 points of a ViT (section 3).")
def mixer_is_competitive() -> Finding:
    """Equal width, depth, patches and budget on digits."""
    figures = compared({name: design_of(name) for name in ("mlp-mixer", "vit")})
    held = figures["mlp-mixer"]["mean"] > figures["vit"]["mean"] - 0.02
    return Finding(verdict(held), said(figures), figures)


@evidence("convmixer", kind="claim", claim="It is above ViT and MLP-Mixer of as many parameters (abstract).")
def convmixer_is_enough() -> Finding:
    """ConvMixer against both at their own patches, with no fewer parameters than it."""
    figures = compared({name: design_of(name) for name in ("convmixer", "mlp-mixer", "vit")})
    ours = figures["convmixer"]
    above = all(ours["mean"] > each["mean"] for name, each in figures.items() if name != "convmixer")
    smaller = all(ours["parameters"] <= each["parameters"] for each in figures.values())
    counts = ", ".join(f"{each['parameters']:,}" for each in figures.values())
    held = above and smaller
    return Finding(verdict(held), f"{said(figures)}; {counts} parameters", figures)


@evidence("tnt", kind="claim", claim="It is above a ViT whose tokens are as wide as its sentences (table 3).")
def tnt_sees_words() -> Finding:
    """Patches of the same size."""
    figures = compared({name: design_of(name) for name in ("tnt", "vit")}, "training.epochs=15", seeds=2)
    held = figures["tnt"]["mean"] > figures["vit"]["mean"]
    return Finding(verdict(held), said(figures), figures)


@evidence(
    "shift-equivariant-vit",
    kind="claim",
    claim="Every answer stays the same however the picture is rolled; a plain ViT's change (abstract: 100 % consistency).",
)
def shifts_change_nothing() -> Finding:
    """Ten epochs each; the test part rolled by each of 8 x 8 shifts: how many answers are those to the picture itself."""
    figures = {}
    for name in ("shift-equivariant-vit", "vit"):
        with trained("digits", "training.epochs=10", design=design_of(name)) as run:
            task = find_task(run.recipe.task).open(**run.recipe.data)
            inputs = task.batch("test", range(task.size("test")))["inputs"]
            model = run.model.eval()
            with torch.no_grad():
                said = [model(inputs.roll((i // 8, i % 8), (2, 3))).argmax(-1) for i in range(64)]
            same = torch.stack([each == said[0] for each in said[1:]]).float().mean().item()
            figures[name] = {"same": same, "accuracy": run.result["metrics"]["accuracy"]}
    ours, plain = figures["shift-equivariant-vit"], figures["vit"]
    held = ours["same"] == 1.0 > plain["same"]
    finding = ", ".join(
        f"{name}: {each['same']:.2%} the same, accuracy {each['accuracy']:.4f}" for name, each in figures.items()
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "2d-ssm",
    kind="claim",
    claim="Without positions the layer is above a ViT without, and not below a ViT with them (abstract, table 1).",
)
def planes_tell_places() -> Finding:
    """The digits recipe, a third of its epochs."""
    bare = [{"set": "embedding.positions", "value": None}]
    figures = compared(
        {
            "2d-ssm": design_of("2d-ssm"),
            "vit without positions": design_of("vit", edits=bare),
            "vit": design_of("vit"),
        },
        "training.epochs=13",
    )
    ours, without, plain = (each["mean"] for each in figures.values())
    held = ours > without and ours >= plain
    return Finding(verdict(held), said(figures), figures)
