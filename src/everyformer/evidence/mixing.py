"""Evidence for what other ways to mix claim, on Shakespeare and on the topics of news."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from everyformer.backbones import Block, Encoder
from everyformer.contracts import ScoreStep
from everyformer.edits import resize
from everyformer.evidence.decoders import continued, validation
from everyformer.evidence.descent import descend
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.kernels import news
from everyformer.evidence.long_text import growth
from everyformer.evidence.recurrences import LONGER, below, loss, options
from everyformer.evidence.runs import trained
from everyformer.mixers import Attention, SpectralDictionary, SubsampledAttention
from everyformer.positions import Buckets
from everyformer.scores import DistanceFactors
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@evidence(
    "differential-transformer",
    kind="claim",
    claim="It models language better than a Transformer with LLaMA's parts of the same size (figure 3).",
)
def differential_better() -> Finding:
    """Shakespeare at width 64."""
    return below("differential-transformer", "llama")


@evidence("ponet", kind="claim", claim="It is more accurate than FNet (section 4.2).")
def ponet_better() -> Finding:
    """AG News, width 128, three epochs."""
    figures = {name: news(name)["accuracy"] for name in ("ponet", "fnet")}
    held = figures["ponet"] > figures["fnet"]
    return Finding(verdict(held), f"{figures['ponet']:.4f} against FNet's {figures['fnet']:.4f}", figures)


@evidence(
    "self-transformer", kind="claim", claim="With no more parameters it is more accurate than one round of attention."
)
def self_transformer_better() -> Finding:
    """AG News, ten iterations against one, three epochs."""
    figures = {
        "iterated": news("self-transformer")["accuracy"],
        "once": news("self-transformer", "design.iterations=1")["accuracy"],
    }
    held = figures["iterated"] > figures["once"]
    return Finding(
        verdict(held), f"{figures['iterated']:.4f} against {figures['once']:.4f} with one iteration", figures
    )


@evidence(
    "transformer-mgk",
    kind="claim",
    claim="Half the heads, each with two keys, are as good as all of softmax's (section 3).",
)
def mgk_half_the_heads() -> Finding:
    """Shakespeare at width 64: two heads of two keys against four heads and against two of one key."""
    figures = {
        "two heads of two keys": loss("transformer-mgk", "design.heads=2"),
        "four heads": loss("gpt"),
        "two heads": loss("gpt", "design.heads=2"),
    }
    holds = figures["two heads of two keys"] <= 1.005 * figures["four heads"]
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character"
    return Finding(verdict(holds), finding, figures)


@evidence(
    "nprf-rpe",
    kind="claim",
    claim="With relative positions and vectors of length 1, random features learn better than Performer's (table 1).",
)
def nprf_better() -> Finding:
    """Shakespeare at width 64."""
    return below("nprf-rpe", "performer")


@evidence(
    "masked-mixer",
    kind="claim",
    claim="It learns more efficiently than early Transformers and less than optimised ones (abstract).",
)
def masked_mixer_between() -> Finding:
    """Shakespeare at width 64, 1,200 steps: GPT-2 is the early one, LLaMA the optimised one."""
    figures = {name: loss(name, *LONGER) for name in ("masked-mixer", "gpt", "llama")}
    holds = figures["llama"] < figures["masked-mixer"] < figures["gpt"]
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character"
    return Finding(verdict(holds), finding, figures)


@evidence(
    "causal-generation-function",
    kind="claim",
    claim="Its loss is below attention's in nanoGPT, and lower still with an average of what came before (abstract).",
)
def causal_generation_function_better() -> Finding:
    """Shakespeare at width 64, 1,200 steps, with and without the mean."""
    figures = {
        "with the mean": loss("causal-generation-function", *LONGER),
        "without": loss("causal-generation-function", "design.average=false", *LONGER),
        "attention": loss("gpt", *LONGER),
    }
    holds = figures["with the mean"] < figures["without"] < figures["attention"]
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character"
    return Finding(verdict(holds), finding, figures)


@evidence("power-softmax", kind="claim", claim="Models are comparable to those with softmax (section 5).")
def power_softmax_comparable() -> Finding:
    """Shakespeare at width 64: at most 3 % above GPT-2's loss."""
    figures = {name: loss(name) for name in ("power-softmax", "gpt")}
    holds = figures["power-softmax"] <= 1.03 * figures["gpt"]
    finding = f"{figures['power-softmax']:.4f} against {figures['gpt']:.4f} nats a character after 400 steps"
    return Finding(verdict(holds), finding, figures)


def _places_missed(steps: tuple[Spec[ScoreStep], ...]) -> float:
    torch.manual_seed(0)
    mixer = spec(Attention, heads=4, positions=spec(Buckets), steps=steps)
    body = spec(Encoder, blocks=(spec(Block, mixer=mixer),)).build(32)
    read = torch.nn.Linear(32, 1)
    values, places = torch.randn(1, 1, 32).expand(1, 16, 32), torch.linspace(0, 1, 16)

    def missed(step: int) -> torch.Tensor:
        return (read(body(Tokens(values)).values)[0, :, 0] - places).square().mean()

    descend(torch.nn.ModuleList((body, read)), missed, 600, lr=3e-3)
    return missed(600).item()


@evidence(
    "urpe",
    kind="claim",
    claim="Relative positions inside softmax cannot tell where equal tokens stand; factors after it can (section 3, 5.1).",
)
def urpe_tells_places() -> Finding:
    """One layer learns the place of each of 16 equal tokens; the mean square error is that of the mean, 0.094, or falls."""
    figures = {"buckets": _places_missed(()), "urpe": _places_missed((spec(DistanceFactors, farthest=16),))}
    held = figures["urpe"] < 0.01 * figures["buckets"]
    return Finding(verdict(held), f"{figures['urpe']:.2e} against {figures['buckets']:.4f} with buckets alone", figures)


@evidence(
    "kernelized-transformer", kind="claim", claim="A learned kernel is better than Performer's fixed one (table 1)."
)
def kernelized_learned() -> Finding:
    """AG News, 64 features of a learned mixture against 64 fixed orthogonal ones, three epochs."""
    path = "backbone.blocks.*.mixer.features.directions"
    fixed = f"design.edits=[{{swap: {path}, with: {{mixers.OrthogonalDirections: {{}}}}}}]"
    figures = {
        "learned": news("kernelized-transformer")["accuracy"],
        "fixed": news("kernelized-transformer", fixed)["accuracy"],
    }
    held = figures["learned"] > figures["fixed"]
    return Finding(verdict(held), f"{figures['learned']:.4f} against {figures['fixed']:.4f}", figures)


@evidence("hyena", kind="claim", claim="It models language as well as attention of the same size (table 4.3).")
def hyena_as_good() -> Finding:
    """Shakespeare at width 64, GPT-2 with its learned positions."""
    return below("hyena", "gpt")


@evidence(
    "ssa",
    kind="claim",
    claim="Attention costs a quarter in training, and a little dense training at the end makes up for it (section 4).",
)
def ssa_costs_less() -> Finding:
    """Shakespeare at width 64: 1,080 steps of a quarter of the keys and 120 of all, against GPT-2 after as many of all;
    the products of scores in training against evaluation.
    """
    models = {}
    for name in ("ssa", "gpt"):
        with trained("shakespeare", *options(name, "training.steps=1080", "training.evaluate_every=1080")) as run:
            models[name] = run.model
    losses = {"before": validation(models["ssa"])}
    resize(models["ssa"], "backbone.blocks.*.mixer.share", 1.0)
    losses |= {name: continued(model, steps=120) for name, model in models.items()}
    with torch.device("meta"):
        mixer, values = SubsampledAttention(64, heads=4), torch.zeros(1, 2048, 64)
    rows = {}
    for name, mode in {"training": True, "evaluation": False}.items():
        with FlopCounterMode(display=False) as counter:
            mixer.train(mode)(Tokens(values))
        rows[name] = counter.get_total_flops() - 2 * 2048 * 64 * 4 * 64
    share = rows["training"] / rows["evaluation"]
    holds = share <= 0.26 and losses["ssa"] <= 1.01 * losses["gpt"]
    finding = (
        f"scores and sums cost {share:.2f} of attention's in training; {losses['before']:.4f} before dense training, "
        f"{losses['ssa']:.4f} after it, against {losses['gpt']:.4f} nats a character"
    )
    return Finding(verdict(holds), finding, {"losses": losses, "operations": rows})


@evidence(
    "spectral-dictionary-lm",
    kind="claim",
    claim="It is competitive with a Transformer in language modelling, in time that grows linearly (abstract).",
)
def spectral_competitive() -> Finding:
    """Shakespeare at width 64, 1,200 steps, at most 2 % above GPT-2's loss; time of one layer from 1,024 to 4,096 tokens."""
    figures = {name: loss(name, *LONGER) for name in ("spectral-dictionary-lm", "gpt")}
    grown = growth(SpectralDictionary(64, atoms=64, length=4096), counts=(1024, 4096))
    holds = figures["spectral-dictionary-lm"] <= 1.02 * figures["gpt"] and grown < 1.2
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items())
    finding = f"{finding} nats a character; time grows as N^{grown:.2f}"
    return Finding(verdict(holds), finding, {**figures, "exponent": grown})
