"""Evidence for what other ways to mix claim, on Shakespeare and on the topics of news."""

from __future__ import annotations

from everyformer.evidence.harness import Finding, evidence
from everyformer.evidence.kernels import news
from everyformer.evidence.recurrences import below, loss


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
    verdict = "holds" if figures["ponet"] > figures["fnet"] else "does not hold at this scale"
    return Finding(verdict, f"{figures['ponet']:.4f} against FNet's {figures['fnet']:.4f}", figures)


@evidence(
    "self-transformer", kind="claim", claim="With no more parameters it is more accurate than one round of attention."
)
def self_transformer_better() -> Finding:
    """AG News, ten iterations against one, three epochs."""
    figures = {
        "iterated": news("self-transformer")["accuracy"],
        "once": news("self-transformer", "design.iterations=1")["accuracy"],
    }
    verdict = "holds" if figures["iterated"] > figures["once"] else "does not hold at this scale"
    return Finding(verdict, f"{figures['iterated']:.4f} against {figures['once']:.4f} with one iteration", figures)


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
    return Finding("holds" if holds else "does not hold at this scale", finding, figures)


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
    """Shakespeare at width 64: GPT-2 is the early one, LLaMA the optimised one."""
    figures = {name: loss(name) for name in ("masked-mixer", "gpt", "llama")}
    holds = figures["llama"] < figures["masked-mixer"] < figures["gpt"]
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character"
    return Finding("holds" if holds else "does not hold at this scale", finding, figures)


@evidence(
    "causal-generation-function",
    kind="claim",
    claim="Its loss is below attention's in nanoGPT, and lower still with an average of what came before (abstract).",
)
def causal_generation_function_better() -> Finding:
    """Shakespeare at width 64, with and without the mean."""
    figures = {
        "with the mean": loss("causal-generation-function"),
        "without": loss("causal-generation-function", "design.average=false"),
        "attention": loss("gpt"),
    }
    holds = figures["with the mean"] < figures["without"] < figures["attention"]
    finding = ", ".join(f"{name} {each:.4f}" for name, each in figures.items()) + " nats a character"
    return Finding("holds" if holds else "does not hold at this scale", finding, figures)


@evidence("power-softmax", kind="claim", claim="Models are comparable to those with softmax (section 5).")
def power_softmax_comparable() -> Finding:
    """Shakespeare at width 64: at most 3 % above GPT-2's loss."""
    figures = {name: loss(name) for name in ("power-softmax", "gpt")}
    holds = figures["power-softmax"] <= 1.03 * figures["gpt"]
    finding = f"{figures['power-softmax']:.4f} against {figures['gpt']:.4f} nats a character after 400 steps"
    return Finding("holds" if holds else "does not hold at this scale", finding, figures)
