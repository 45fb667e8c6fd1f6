"""Evidence for four surveys of smaller and faster transformers: each asks one question that measures answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.compression import at_equal_cost, in_every_order, int8, layer_pruning, rtn, wanda
from everyformer.costs import flops, on_meta, processor_seconds
from everyformer.designs import design_of
from everyformer.evidence.caches import LENGTH, decoder, held_out
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.long_decoders import shakespeare, streams
from everyformer.evidence.pretrained import SIZE, fit, task
from everyformer.generation import Jacobi, Lookahead, paces
from everyformer.interpret import growth
from everyformer.objectives import Classification, Distillation
from everyformer.reduction import ToMe, reduced
from everyformer.specs import Spec, spec

Figures = Mapping[str, Mapping[Any, float]]


def answered(held: bool, figures: Figures, unit: str) -> Finding:
    """The rows of a comparison in a line, and what they say to the question."""
    rows = (
        f"{name} " + ", ".join(f"{value:.4g} ({what})" for what, value in each.items())
        for name, each in figures.items()
    )
    return Finding(verdict(held), f"{unit}: {'; '.join(rows)}", {name: dict(each) for name, each in figures.items()})


@evidence(
    "survey-transformer-compression",
    kind="claim",
    claim="Pruning and quantization add up, and it matters which comes first: pruning before rounding loses less.",
)
def pruned_then_rounded() -> Finding:
    """Half of the weights left out by Wanda, and weights rounded to 4 and to 3 bits in groups of 32: nats that either adds."""
    batches: list[Tensor] = [*streams(shakespeare()["train"], 2000)[:64, :LENGTH].split(8)]

    @torch.no_grad()
    def nats(model: nn.Module) -> float:
        ids = held_out()
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()

    plain, figures = nats(decoder()), {}
    for bits in (4, 3):
        changes = {
            "prune": lambda model: wanda(model, batches),
            "round": partial(rtn, bits=bits, group=32),
        }
        alone = {f"{name} alone": nats(change(decoder())) - plain for name, change in changes.items()}
        both = {", ".join(order): nats(made) - plain for order, made in in_every_order(decoder(), changes)}
        figures[f"{bits} bits"] = alone | both
    held = all(each["prune, round"] < each["round, prune"] for each in figures.values())
    return answered(held, figures, f"nats added to {plain:.4f}")


@cache
def classifier() -> nn.Module:
    """A ViT of digits with 6 blocks."""
    model: nn.Module = ef.create("vit", **{**SIZE, "classes": 10, "depth": 6}, seed=0)
    data = task()
    fit(model, Classification(), data, data.size("train"), 300, 0)
    return model.eval()


def student(share: float) -> nn.Module:
    """A ViT with a share of the blocks, not trained yet."""
    depth = max(1, round(6 * share))
    made: nn.Module = ef.create("vit", **{**SIZE, "classes": 10, "depth": depth}, seed=1)
    return made


@evidence(
    "survey-transformer-inference",
    kind="claim",
    claim="At equal cost a distilled student is at least as good as one that learns alone, and better than a model that was "
    "pruned and not trained again.",
)
def at_two_thirds_of_the_work() -> Finding:
    """Digits, two thirds of the FLOPs: blocks or tokens left out, and students with fewer blocks, alone and taught, two seeds."""
    data, whole = task(), classifier()
    given = [data.batch("train", range(i, i + 64))["inputs"] for i in range(0, 256, 64)]
    picture = {"inputs": given[0][:1]}

    def cost(model: nn.Module) -> float:
        return float(flops(on_meta(design_of(model)), picture)[""])

    def kept(share: float) -> nn.Module:
        return layer_pruning(whole, given, drop=6 - max(1, round(6 * share)))

    ways: dict[str, Callable[[float], nn.Module]] = {
        "blocks": kept,
        "tokens": lambda share: reduced(whole, spec(ToMe, keep=0.5 + 0.5 * share)),
        "student": student,
    }
    made = at_equal_cost(ways, cost, 0.68 * cost(whole))
    figures: dict[str, dict[str, float]] = {"whole": {"accuracy": _accuracy(whole), "FLOPs": cost(whole)}}
    for name, each in made.items():
        if name != "student":
            figures[name] = {"accuracy": _accuracy(each.model), "FLOPs": each.cost}
    taught = Distillation()
    taught.teach(whole)
    for name, objective in {"alone": Classification(), "taught": taught}.items():
        accuracies = []
        for seed in range(2):
            model = student(made["student"].share)
            fit(model, objective, data, data.size("train"), 300, seed)
            accuracies.append(_accuracy(model.eval()))
        figures[name] = {"accuracy": sum(accuracies) / 2, "FLOPs": made["student"].cost}
    best = max(figures[name]["accuracy"] for name in ("blocks", "tokens"))
    held = figures["taught"]["accuracy"] >= max(figures["alone"]["accuracy"], best)
    return answered(held, figures, "accuracy on the test part, and FLOPs of a picture")


def _accuracy(model: nn.Module) -> float:
    return float(task().evaluate(model, "test").metrics["accuracy"])


LIGHTER: dict[str, Spec[Any]] = {
    "linear": spec(ef.mixers.LinearAttention, heads=4),
    "performer": spec(ef.mixers.LinearAttention, heads=4, features=spec(ef.mixers.PositiveFeatures)),
    "linformer": spec(ef.mixers.Linformer, heads=4, length=4096),
    "nystrom": spec(ef.mixers.NystromAttention, heads=4),
    "longformer": spec(ef.mixers.LongformerAttention, heads=4),
    "lsh": spec(ef.mixers.LSHAttention, heads=4),
    "bigbird": spec(ef.mixers.BigBirdAttention, heads=4),
}


@evidence(
    "practical-survey-faster-lighter",
    kind="claim",
    claim="Lighter attention grows about linearly with the length, where attention grows with its square; no one is the lightest "
    "for all, and on short texts some cost more than attention.",
)
def lighter_from_where_on() -> Finding:
    """Width 64, 128 to 4,096 tokens, all with their published settings: exponents, where each pays, and the clock at 1,024."""
    attention = spec(ef.mixers.Attention, heads=4)
    found = growth({"attention": attention, **LIGHTER})
    values = torch.randn(1, 1024, 64, generator=torch.Generator().manual_seed(0))
    built = [each.build(64).eval() for each in (attention, *LIGHTER.values())]
    seconds = processor_seconds(*(partial(each, ef.Tokens(values)) for each in built), repeats=3)
    figures = {
        name: {
            "exponent": each.exponent,
            "milliseconds": 1000 * spent,
            **({} if each.pays_from is None else {"pays from": float(each.pays_from)}),
        }
        for (name, each), spent in zip(found.items(), seconds, strict=True)
    }
    lighter = [figures[name] for name in LIGHTER]
    held = figures["attention"]["exponent"] > 1.85 and all(abs(each["exponent"] - 1) < 0.15 for each in lighter)
    held = held and all("pays from" in each for each in lighter) and any(each["pays from"] > 256 for each in lighter)
    return answered(held, figures, "growth of the work, least length at which it is less than attention's, and time")


@evidence(
    "inference-optimization-accelerators",
    kind="claim",
    claim="A cache pays at every batch; drafts several tokens long pay for one text, which is bound by memory, and less for 16.",
)
def for_one_and_for_many() -> Finding:
    """A decoder of Shakespeare, 48 tokens after 64: tokens a processor second at batch 1 and 16."""
    model: Any = decoder()
    prompts = torch.cat([held_out()[:, start : start + 64] for start in (0, 64, 128)])[:16]
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        "no cache": (model, {"cache": False}),
        "cache": (model, {}),
        "8 bits": (int8(model), {}),
        "Jacobi": (model, {"strategy": Jacobi(block=4)}),
        "lookahead": (model, {"strategy": Lookahead(window=8, size=4)}),
    }
    figures = paces(ways, prompts, tokens=48)
    gain = {name: {batch: each[batch] / figures["cache"][batch] for batch in each} for name, each in figures.items()}
    drafts = [gain["Jacobi"], gain["lookahead"]]
    held = all(each > 1 for each in (1 / gain["no cache"][1], 1 / gain["no cache"][16]))
    held = held and max(each[1] for each in drafts) > 1 and all(each[16] < each[1] for each in drafts)
    return answered(held, figures, "tokens a processor second by texts at once")
