"""Evidence for a memory beside a language model that is not trained: captions of Multi30k that are to hold given words."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.data.padding import pad_right
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.sources import BATCH, SHAPE, texts, total
from everyformer.generation import Sample, generate
from everyformer.models.residual_memory import ResidualMemory, residual_memory

WORDS, COMMON, TESTED, LONGEST = 3, 150, 200, 30
"""How many words are asked for, how many of the most common are never, and on how many captions of what length it is tried."""


def asked(caption: Tensor, chance: torch.Generator) -> Int[Tensor, " W"]:
    """Words of a caption in an order of chance, some more than once where it has few."""
    rare = caption[caption >= COMMON]
    rare = rare if len(rare) else caption
    return rare[torch.randint(len(rare), (WORDS,), generator=chance)]


def captions(split: str, indices: list[int], chance: torch.Generator) -> dict[str, Tensor]:
    """What is asked for, and the captions that hold it."""
    rows, task = texts()
    chosen = [torch.from_numpy(rows[split]["en"][i]) for i in indices]
    labels, real = pad_right([each.numpy() for each in chosen], task.vocabulary.pad)
    begin = torch.full((len(chosen), 1), task.vocabulary.begin)
    return {
        "inputs": torch.stack([asked(each[:-1], chance) for each in chosen]),
        "target": torch.cat((begin, labels[:, :-1]), 1),
        "target_mask": real,
        "labels": labels.masked_fill(~real, -100),
    }


def _taught(model: nn.Module, steps: int, *, memory: bool) -> nn.Module:
    count, chance = len(texts()[0]["train"]["en"]), torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        given = captions("train", torch.randint(count, (BATCH,), generator=chance).tolist(), chance)
        nats, tokens = total(model, given if memory else _alone(given))
        return nats / tokens

    return descend(model, loss, steps, lr=3e-3, rate=warmed(50))


def _alone(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The captions as a language model is given them."""
    return {"inputs": given["target"], "mask": given["target_mask"], "labels": given["labels"]}


@cache
def _both() -> tuple[nn.Module, ResidualMemory]:
    """A language model of captions, and the same with a memory, in which nothing of it has changed."""
    shape = {name: SHAPE[name] for name in ("vocabulary", "width", "hidden", "depth", "heads", "dropout")}
    language = _taught(ef.create("gpt", **shape, length=128, seed=0), 400, memory=False)
    made = residual_memory(language, layers=1, heads=4, hidden=128, dropout=0.0, seed=1)  # type: ignore[arg-type]
    _taught(made, 600, memory=True)
    return language, made


def _held(control: float) -> float:
    """The share of the words asked for that drawn captions hold."""
    _, task = texts()
    model, words = _both()[1], task.vocabulary
    given = captions("test", list(range(TESTED)), torch.Generator().manual_seed(1))["inputs"]
    model.control, kept = control, model.control
    torch.manual_seed(0)
    said = generate(
        model, given, bos=words.begin, eos=words.end, pad=words.pad, max_tokens=LONGEST,
        strategy=Sample(temperature=0.7),
    )  # fmt: skip
    model.control = kept
    return sum(word in each for row, each in zip(given.tolist(), said, strict=True) for word in row) / given.numel()


@evidence(
    "residual-memory-transformer",
    kind="learns",
    claim="Told three of its words, it writes a caption with fewer nats a token than the language model that it stands beside.",
)
@torch.no_grad()
def residual_memory_learns() -> Finding:
    """400 steps for the language model, 600 for the memory; the test captions of Multi30k."""
    language, made = _both()
    given = captions("test", list(range(TESTED)), torch.Generator().manual_seed(1))
    figures = {}
    for name, model, batch in (("memory", made, given), ("language model", language, _alone(given))):
        nats, count = total(model, dict(batch))
        figures[name] = float(nats) / count
    finding = f"{figures['memory']:.4f} against {figures['language model']:.4f} nats a token"
    return Finding(verdict(figures["memory"] < figures["language model"]), finding, figures)


@evidence(
    "residual-memory-transformer",
    kind="claim",
    claim="What it writes holds more than 80 % of the words that are asked for, and without it less than 30 %.",
)
def residual_memory_includes() -> Finding:
    """Three words of each of 200 test captions, drawn captions at temperature 0.7, with the memory mixed in and without."""
    figures = {"with": _held(0.5), "without": _held(0.0)}
    held = figures["with"] > 0.8 and figures["without"] < 0.3
    return Finding(verdict(held), f"{figures['with']:.0%} with it, {figures['without']:.0%} without", figures)
