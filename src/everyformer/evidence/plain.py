"""Evidence for transformers of pictures that keep one grid from end to end, on scikit-learn's handwritten digits."""

from __future__ import annotations

from functools import partial
from typing import Any

from everyformer.evidence.harness import Finding, evidence
from everyformer.evidence.pictures import against_logistic_regression
from everyformer.evidence.runs import over_seeds, scored, trained

CUT: dict[str, tuple[str, ...]] = {
    "beit": ("design.patch=2", "design.scale=1"),
    "cait": ("design.patch=2", "design.scale=1"),
    "convmixer": ("design.patch=1", "design.depth=4", "design.kernel=3"),
    "crossvit": (
        "design.patches=[2,4]",
        "design.small_image=8",
        "design.narrow=32",
        "design.stages=2",
        "design.depth=1",
    ),
    "deit": ("design.patch=2",),
    "dinov2": ("design.patch=2", "design.scale=1"),
    "mlp-mixer": ("design.patch=2",),
    "patternformer": ("design.stages=[16,32]", "design.patterns=32", "design.side=4"),
    "siglip": ("design.patch=2",),
    "supervised-mim": ("design.patch=2",),
    "tnt": ("design.patch=2", "design.stride=1", "design.word_width=8", "design.word_heads=2"),
    "three-things-vit": ("design.strides=[2]", "design.depth=1", "design.scale=1"),
    "vikanformer": ("design.patch=2", "design.ratio=0.5"),
    "vit-registers": ("design.patch=2",),
    "xcit": ("design.patch=2",),
}
"""How each cuts up a picture of 8x8 pixels. The recipe gives all the same width, heads and, unless said here, depth."""
SEEDS = 1
_VIT = ("design.system=vit", "design.patch=2")


def design_of(system: str) -> tuple[str, ...]:
    """The overrides of the digits recipe that make it a recipe of `system`."""
    return (f"design.system={system}", *CUT[system])


for _name in CUT:
    evidence(_name, kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")(
        partial(against_logistic_regression, *design_of(_name), seeds=SEEDS)
    )


def compared(designs: dict[str, tuple[str, ...]], seeds: int = SEEDS) -> dict[str, Any]:
    """The figures of several designs on the digits recipe."""
    return {name: over_seeds("digits", *options, seeds=seeds) for name, options in designs.items()}


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
        alone = scored("digits", *few, "design.system=vit", "design.patch=2")["metrics"]["accuracy"]
        taught = scored("digits", *few, *design_of("deit"), *told)["metrics"]["accuracy"]
        best = teacher.result["metrics"]["accuracy"]
    verdict = "holds" if taught > alone else "does not hold at this scale"
    return Finding(
        verdict, f"{taught:.4f} taught, {alone:.4f} alone, the teacher {best:.4f}", {"taught": taught, "alone": alone}
    )


@evidence("cait", kind="claim", claim="A deep model is better with small LayerScale than without (table 1).")
def cait_goes_deep() -> Finding:
    """Twelve layers, a scale that starts at 1e-4 and one that starts at 1."""
    same = ("design.system=cait", "design.patch=2", "design.depth=12", "training.epochs=20")
    figures = compared({"small": (*same, "design.scale=1e-4"), "one": (*same, "design.scale=1.0")}, seeds=1)
    verdict = "holds" if figures["small"]["mean"] > figures["one"]["mean"] else "does not hold at this scale"
    return Finding(verdict, said(figures), figures)


@evidence("crossvit", kind="claim", claim="Two branches are better than either alone (table 7).")
def crossvit_needs_both() -> Finding:
    """Against a ViT with the patches and the width of each branch, depth as both stages together."""
    plain = ("design.system=vit", "design.ratio=3")
    figures = compared(
        {
            "both": design_of("crossvit"),
            "small patches": (*plain, "design.patch=2", "design.width=32"),
            "large patches": (*plain, "design.patch=4"),
        }
    )
    best = max(figures["small patches"]["mean"], figures["large patches"]["mean"])
    verdict = "holds" if figures["both"]["mean"] > best else "does not hold at this scale"
    return Finding(verdict, said(figures), figures)


@evidence("patternformer", kind="claim", claim="Patterns are better tokens than patches at equal parameters (table 1).")
def patternformer_beats_patches() -> Finding:
    """Against a ViT that is wider by as much as the convolutions take."""
    figures = compared(
        {
            "patterns": design_of("patternformer"),
            "patches": ("design.system=vit", "design.patch=2", "design.width=80"),
        }
    )
    verdict = "holds" if figures["patterns"]["mean"] > figures["patches"]["mean"] else "does not hold at this scale"
    counts = ", ".join(f"{each['parameters']:,}" for each in figures.values())
    return Finding(verdict, f"{said(figures)}; {counts} parameters", figures)


@evidence("three-things-vit", kind="claim", claim="Half the depth in two branches is as good as the whole (figure 2).")
def parallel_is_as_good() -> Finding:
    """Two blocks of two branches and four of one, after the same stem: within a point."""
    same = ("design.system=three-things-vit", "design.strides=[2]", "design.scale=1")
    figures = compared(
        {
            "2x2": (*same, "design.depth=2", "design.branches_each=2"),
            "4x1": (*same, "design.depth=4", "design.branches_each=1"),
        }
    )
    verdict = "holds" if figures["2x2"]["mean"] > figures["4x1"]["mean"] - 0.01 else "does not hold at this scale"
    return Finding(verdict, said(figures), figures)


@evidence(
    "vikanformer",
    kind="claim",
    claim="SineKAN, FastKAN and KAN are past 97 % on handwritten digits, and slower to train than an MLP (table 1).",
)
def kans_and_mlp() -> Finding:
    """Every kind of edge and the MLP, one seed each; scikit-learn's digits in the place of MNIST."""
    kinds = {
        kind: (*design_of("vikanformer"), f"design.kind={kind}") for kind in ("spline", "radial", "sine", "fourier")
    }
    figures = compared({**kinds, "mlp": ("design.system=vit", "design.patch=2")}, seeds=1)
    past = all(figures[kind]["mean"] > 0.97 for kind in ("spline", "radial", "sine"))
    slower = all(figures[kind]["seconds"] > figures["mlp"]["seconds"] for kind in kinds)
    verdict = "holds" if past and slower else "does not hold at this scale"
    seconds = ", ".join(f"{name} {each['seconds']:.0f} s" for name, each in figures.items())
    return Finding(verdict, f"{said(figures)}; {seconds}", figures)


@evidence("convmixer", kind="claim", claim="It is above ViT and MLP-Mixer of as many parameters (abstract).")
def convmixer_is_enough() -> Finding:
    """ConvMixer against both at their own patches, with no fewer parameters than it."""
    figures = compared({name: design_of(name) for name in ("convmixer", "mlp-mixer")} | {"vit": _VIT})
    ours = figures["convmixer"]
    above = all(ours["mean"] > each["mean"] for name, each in figures.items() if name != "convmixer")
    smaller = all(ours["parameters"] <= each["parameters"] for each in figures.values())
    counts = ", ".join(f"{each['parameters']:,}" for each in figures.values())
    verdict = "holds" if above and smaller else "does not hold at this scale"
    return Finding(verdict, f"{said(figures)}; {counts} parameters", figures)


@evidence("tnt", kind="claim", claim="It is above a ViT whose tokens are as wide as its sentences (table 3).")
def tnt_sees_words() -> Finding:
    """Patches of the same size."""
    figures = compared({"tnt": design_of("tnt"), "vit": _VIT}, seeds=3)
    verdict = "holds" if figures["tnt"]["mean"] > figures["vit"]["mean"] else "does not hold at this scale"
    return Finding(verdict, said(figures), figures)
