"""Evidence for decoders on Shakespeare, and for those whose mixers are recurrences."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from everyformer.data.tasks.language import LanguageModelling
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.language import ngrams, trigrams
from everyformer.evidence.measures import next_token, recalled
from everyformer.evidence.runs import scored, trained
from everyformer.mixers import Directions, IndependentDirections, OrthogonalDirections, PositiveFeatures
from everyformer.recipe import load_recipe
from everyformer.registry import find_system
from everyformer.specs import spec

_STEPS = ("training.steps=400", "training.evaluate_every=400", "training.warmup=40")
_SMALL = ("design.size=nano", "design.width=64", "design.depth=2")
_LLAMA = (*_SMALL, "design.hidden=172")
SHAPES = {
    "causal-generation-function": _SMALL,
    "deltanet": _LLAMA,
    "differential-transformer": _LLAMA,
    "gated-deltanet": (*_LLAMA, "design.head_width=16"),
    "gla": _LLAMA,
    "gpt": _SMALL,
    "hyena": _SMALL,
    "landmark-attention": _LLAMA,
    "linear-transformer": _SMALL,
    "llama": _LLAMA,
    "masked-mixer": _SMALL,
    "mamba-2": ("design.size=nano", "design.width=64", "design.depth=4"),
    "nprf-rpe": _SMALL,
    "performer": _SMALL,
    "power-softmax": _SMALL,
    "prob-opt-genai": _LLAMA,
    "recurrentgemma": (*_LLAMA, "design.depth=3", "design.window=32"),
    "reformer": _SMALL,
    "retnet": _SMALL,
    "rwkv": _SMALL,
    "spectral-dictionary-lm": ("design.size=nano", "design.width=64"),
    "ssa": _SMALL,
    "transformer-mgk": _SMALL,
    "urpe": _SMALL,
}
"""The options of each system at a width of 64, of two layers with feedforwards or four without."""
SLOW = {"masked-mixer", "spectral-dictionary-lm"}
"""Those that 400 steps do not bring below counted pairs of characters."""
LONGER = ("training.steps=1200", "training.evaluate_every=1200")


def options(system: str, *more: str) -> tuple[str, ...]:
    """The overrides of the Shakespeare recipe for a system."""
    return f"design.system={system}", *SHAPES[system], *_STEPS, *more


@cache
def loss(system: str, *more: str) -> float:
    """Nats a character of the validation part after 400 steps, unless `more` says `LONGER`."""
    return scored("shakespeare", *options(system, *more))["valid"]["loss"]


@cache
def counted() -> dict[str, float]:
    """Nats a character of interpolated models of two and of three characters."""
    parts = LanguageModelling.open(**load_recipe("shakespeare").data).parts
    texts = parts["train"].tolist(), parts["valid"].tolist()
    return {"bigrams": ngrams(*texts, (0.2, 0.8)), "trigrams": trigrams(*texts)}


def _learns(system: str) -> Callable[[], Finding]:
    def run() -> Finding:
        ours, baselines = loss(system, *(LONGER if system in SLOW else ())), counted()
        held = ours < baselines["bigrams"]
        steps = "1,200" if system in SLOW else "400"
        finding = f"{ours:.4f} against {baselines['bigrams']:.4f} nats a character after {steps} steps at width 64"
        return Finding(verdict(held), f"{finding} (trigrams {baselines['trigrams']:.4f})", {system: ours, **baselines})

    return run


for _name in sorted(SHAPES.keys() - {"gpt", "llama"}):
    evidence(_name, kind="learns", claim="Validation loss on Shakespeare is below an interpolated bigram model's.")(
        _learns(_name)
    )


def _constant(system: str) -> Finding:
    """Time and memory of one more token at 256 and at 4,096 of context, beside GPT-2 of the same size."""
    figures = {}
    for name in (system, "gpt"):
        parts = dict(each.removeprefix("design.").split("=") for each in SHAPES[name])
        chosen = {key: int(value) for key, value in parts.items() if key != "size"}
        if name in ("gpt", "linear-transformer", "performer"):
            chosen["length"] = 4608
        model = find_system(name).design(parts["size"], vocabulary=65, **chosen).build(seed=0).eval()
        figures[name] = {str(context): next_token(model, context) for context in (256, 4096)}
    grown = {
        name: {what: each["4096"][what] / each["256"][what] for what in ("milliseconds", "numbers")}
        for name, each in figures.items()
    }
    ours, theirs = grown[system], grown["gpt"]
    holds = ours["numbers"] == 1 and ours["milliseconds"] < 1.25 < theirs["milliseconds"]
    finding = (
        f"from 256 to 4,096 tokens of context the time of a token grows {ours['milliseconds']:.2f} times and the state "
        f"{ours['numbers']:.0f} times (GPT-2: {theirs['milliseconds']:.2f} and {theirs['numbers']:.1f})"
    )
    return Finding(verdict(holds), finding, figures)


@evidence(
    "linear-transformer",
    kind="claim",
    claim="It generates in constant time and memory per token, however long the context (section 3.4).",
)
def linear_transformer_generates() -> Finding:
    """Against GPT-2 with a cache."""
    return _constant("linear-transformer")


@evidence(
    "retnet",
    kind="claim",
    claim="Inference takes constant time and memory per token, a Transformer's grows (section 3.3).",
)
def retnet_generates() -> Finding:
    """Against GPT-2 with a cache."""
    return _constant("retnet")


@evidence(
    "performer",
    kind="claim",
    claim="The error of positive features falls with the root of their number, and orthogonal ones err less (figure 4).",
)
def performer_estimates() -> Finding:
    """Attention over 256 normal queries and keys of 16 channels; the mean over 40 draws of the root mean square error."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 1, 256, 16, generator=generator) * size for size in (0.7, 0.7, 1.0))
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value)

    def error(features: int, law: type[Directions]) -> float:
        found = []
        for draw in range(40):
            torch.manual_seed(draw)
            made = PositiveFeatures(16, features=features, directions=spec(law))
            left, right = made(query, key, torch.arange(256)[None, :, None])
            weights = left @ right.mT
            found.append((weights @ value / weights.sum(-1, keepdim=True) - wanted).square().mean().sqrt())
        return torch.stack(found).mean().item()

    figures = {
        str(many): {
            "orthogonal": error(many, OrthogonalDirections),
            "independent": error(many, IndependentDirections),
        }
        for many in (16, 64, 256, 1024, 4096)
    }
    fell = figures["256"]["orthogonal"] / figures["4096"]["orthogonal"]
    less = all(each["orthogonal"] < each["independent"] for each in figures.values())
    held = less and 3 < fell < 5.5
    finding = (
        f"16 times the features (256 to 4,096), an error {fell:.2f} times smaller; orthogonal against independent: "
        + ", ".join(f"{each['orthogonal']:.4f} / {each['independent']:.4f} at {many}" for many, each in figures.items())
    )
    return Finding(verdict(held), finding, figures)


@evidence(
    "gla",
    kind="claim",
    claim="Trained on short sequences it stays good on longer ones; attention with learned positions does not (section 5.2).",
)
def gla_length() -> Finding:
    """Trained at 64 characters, scored at 64 and at 512; GPT-2's table has 512 rows, most of them never trained."""
    figures = {}
    for name, more in {"gla": (), "gpt": ("design.length=512",)}.items():
        with trained("shakespeare", *options(name, *more)) as run:
            task = LanguageModelling.open(**{**load_recipe("shakespeare").data, "length": 512})
            long = task.evaluate(run.model, "valid").metrics["loss"]
            figures[name] = {"64": run.result["valid"]["loss"], "512": long}
    moved = {name: each["512"] - each["64"] for name, each in figures.items()}
    held = moved["gla"] < 0.02 < moved["gpt"]
    finding = f"from 64 to 512 characters the loss moves by {moved['gla']:+.3f}, GPT-2's by {moved['gpt']:+.3f}"
    return Finding(verdict(held), finding, figures)


@evidence(
    "deltanet",
    kind="claim",
    claim="It recalls more associations than linear attention whose state is only added to (section 5.1).",
)
def deltanet_recalls() -> Finding:
    """16 keys and values, then questions; width 32, two layers, 500 batches."""
    figures = {}
    for name in ("deltanet", "gla", "linear-transformer"):
        shape = {"width": 32, "depth": 2, "heads": 1, "vocabulary": 64}
        extra = {"length": 48} if name == "linear-transformer" else {"hidden": 86}
        model = find_system(name).design("nano", **shape, **extra).build(seed=0)
        figures[name] = recalled(model, pairs=16, steps=500)
    held = figures["deltanet"] > max(figures["gla"], figures["linear-transformer"]) + 0.05
    finding = (
        ", ".join(f"{name} {share:.3f}" for name, share in figures.items()) + " of questions answered (chance 0.03)"
    )
    return Finding(verdict(held), finding, figures)


def below(system: str, *others: str) -> Finding:
    """Losses after 400 steps, one seed."""
    figures = {name: loss(name) for name in (system, *others)}
    held = all(figures[system] < figures[each] for each in others)
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character after 400 steps"
    return Finding(verdict(held), finding, figures)


@evidence(
    "gated-deltanet", kind="claim", claim="It models language better than the delta rule and Mamba-2 alone (table 3)."
)
def gated_deltanet_better() -> Finding:
    """Shakespeare at width 64."""
    return below("gated-deltanet", "deltanet", "mamba-2")


@evidence("mamba-2", kind="claim", claim="It models language better than a Transformer with LLaMA's parts (table 1).")
def mamba2_better() -> Finding:
    """Shakespeare at width 64; four layers without feedforwards against two with them."""
    return below("mamba-2", "llama")


@evidence("rwkv", kind="claim", claim="It is on par with Transformers of the same size (section 5).")
def rwkv_on_par() -> Finding:
    """Shakespeare at width 64: at most 1 % above GPT-2's loss, and one more token in constant time."""
    ours = below("rwkv", "gpt")
    constant = _constant("rwkv")
    holds = ours.figures["rwkv"] <= 1.01 * ours.figures["gpt"] and constant.verdict == "holds"
    figures = {"losses": ours.figures, "tokens": constant.figures}
    finding = f"{ours.finding}; {constant.finding}"
    return Finding(verdict(holds), finding, figures)


@evidence(
    "recurrentgemma", kind="claim", claim="It models language as well as a Transformer does (Griffin, section 3.1)."
)
def recurrentgemma_on_par() -> Finding:
    """Shakespeare at width 64, three layers of each: at most 1 % above the loss of one with LLaMA's parts."""
    figures = {"recurrentgemma": loss("recurrentgemma"), "llama": loss("llama", "design.depth=3")}
    holds = figures["recurrentgemma"] <= 1.01 * figures["llama"]
    finding = f"{figures['recurrentgemma']:.4f} against {figures['llama']:.4f} nats a character after 400 steps"
    return Finding(verdict(holds), finding, figures)
