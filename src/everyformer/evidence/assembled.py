"""Evidence for encoders and decoders that are put together: of trained halves, of several, or of unequal ones."""

from __future__ import annotations

from functools import cache, partial
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

import everyformer as ef
from everyformer.costs import parameters, processor_seconds
from everyformer.data.padding import pad_right
from everyformer.data.tasks.masked import MaskedLanguageModelling
from everyformer.data.tasks.texts import TextClassification
from everyformer.data.vocabulary import BOS, PAD
from everyformer.edits import resize
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.pretrained import fit
from everyformer.evidence.sharing import better, translated, translates
from everyformer.generation import generate
from everyformer.masks import Causal
from everyformer.models import bert2bert, encoder_of
from everyformer.objectives import Classification, MaskedToken, NextToken, SequenceToSequence
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.recipe import load_recipe


class Following:
    """Texts as what a decoder learns: the token after each."""

    def __init__(self, task: TextClassification) -> None:
        self.task = task

    def batch(self, split: str, indices: list[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` and `labels`, the token after each."""
        inputs = self.task.batch(split, indices)["inputs"]
        after = inputs[:, 1:].masked_fill(inputs[:, 1:] == PAD, IGNORED)
        return {"inputs": inputs[:, :-1], LABELS: after}


_LABELS = 500
"""Labelled texts that an encoder is tuned on."""


@cache
def _news() -> tuple[TextClassification, nn.Module]:
    """The topics of news, and a small decoder that has read the training texts."""
    task = TextClassification.open(**{**load_recipe("ag_news").data, "vocabulary": 2000, "length": 32})
    model = ef.create("llama", vocabulary=2000, width=64, hidden=172, depth=2, heads=4, seed=0)
    fit(model, NextToken(), Following(task), task.size("train"), 1000, 0)
    return task, model


@cache
def tuned(pool: str, mask: str = "both", start: str = "read") -> float:
    """Test accuracy of an encoder made of that decoder, or of one that read nothing, tuned on few labels."""
    task, decoder = _news()
    if start == "fresh":
        decoder = ef.create("llama", vocabulary=2000, width=64, hidden=172, depth=2, heads=4, seed=1)
    head = ef.spec(ef.heads.ClassHead, classes=4, pool=ef.spec(getattr(ef.heads, pool)))
    model: Any = encoder_of(decoder, head, seed=0)  # type: ignore[arg-type]
    if mask == "causal":
        resize(model, "backbone.mask", Causal())
    fit(model, Classification(), task, _LABELS, 80, 0, lr=1e-3)
    return float(task.evaluate(model.eval(), "test").metrics["accuracy"])


@evidence(
    "gemma-encoder",
    kind="learns",
    claim=f"Tuned on {_LABELS} labels, an encoder made of a decoder that has read is above one that has not.",
)
def read_before_helps() -> Finding:
    """AG News, two layers; 1,000 steps of reading, 80 of tuning."""
    ours, fresh = tuned("Mean"), tuned("Mean", start="fresh")
    return Finding(verdict(ours > fresh), f"{ours:.4f} against {fresh:.4f}", {"read": ours, "fresh": fresh})


@evidence(
    "gemma-encoder",
    kind="claim",
    claim="Both sides seen are better than the causal mask kept, and of the pools mean and last token are about as good (section 4).",
)
def both_sides_help() -> Finding:
    """AG News, mean, last and first token, with both masks; pools within 3 points of each other count as about as good."""
    figures = {
        f"{pool}, {mask}": tuned(pool, mask)
        for pool in ("Mean", "LastToken", "FirstToken")
        for mask in ("both", "causal")
    }
    gains = [figures[f"{pool}, both"] - figures[f"{pool}, causal"] for pool in ("Mean", "LastToken", "FirstToken")]
    holds = mean(gains) > 0 and abs(figures["Mean, both"] - figures["LastToken, both"]) < 0.03
    return Finding(verdict(holds), ", ".join(f"{name} {each:.4f}" for name, each in figures.items()), figures)


class Ordering:
    """Captions whose words are shuffled, and the captions."""

    def __init__(self, task: MaskedLanguageModelling) -> None:
        self.vocabulary = task.vocabulary
        text = task.vocabulary.decode(task.parts["train"].flatten().tolist())
        self.texts = [line.strip() for line in text.splitlines() if 5 < len(line.split()) < 16]

    def batch(self, split: str, indices: list[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """Pairs: those of training from the front, others from the end."""
        chosen = [self.texts[i if split == "train" else -1 - i] for i in indices]
        shuffled = []
        for i, text in zip(indices, chosen, strict=True):
            pieces = text.split()
            order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(i)).tolist()
            shuffled.append(" ".join(pieces[k] for k in order))
        inputs, mask = pad_right(self.vocabulary.encode_all(shuffled), PAD)
        labels, real = pad_right(self.vocabulary.encode_all(chosen), PAD)
        target = torch.cat((torch.full((len(chosen), 1), BOS), labels[:, :-1]), 1)
        return {"inputs": inputs, "mask": mask, "target": target, LABELS: labels.masked_fill(~real, IGNORED)}


@cache
def _captions() -> tuple[Ordering, nn.Module]:
    """The pairs, and a small BERT that has guessed hidden words of the captions."""
    data = {"source": load_recipe("multi30k").data["source"], "input": "en", "vocabulary": 2000, "lowercase": True}
    task = MaskedLanguageModelling.open(**data, length=24)
    model = ef.create("bert", vocabulary=2000, length=48, width=64, hidden=256, depth=2, heads=4, dropout=0.0, seed=0)
    fit(model, MaskedToken(), task, task.size("train"), 250, 0)
    return Ordering(task), model


@cache
def ordered(encoder: str, decoder: str, shared: bool = False) -> float:
    """Nats a token of 256 held-out captions after 60 steps on 1,000 pairs; each half 'bert' or 'rnd'."""
    task, read = _captions()
    fresh = ef.create("bert", vocabulary=2000, length=48, width=64, hidden=256, depth=2, heads=4, dropout=0.0, seed=1)
    halves = {"bert": read, "rnd": fresh}
    one: Any = halves[encoder]
    model = bert2bert(one, None if shared or encoder == decoder else halves[decoder], shared=shared, seed=0)  # type: ignore[arg-type]
    fit(model, SequenceToSequence(), task, 1000, 60, 0)
    with torch.no_grad():
        loss = SequenceToSequence()(model.eval(), task.batch("test", list(range(256))))
    return float(loss.total / loss.count)


@evidence(
    "bert2bert", kind="learns", claim="Both halves warm, it puts words in order better than both fresh, at equal steps."
)
def warm_starts_help() -> Finding:
    """Captions of Multi30k, their words shuffled; 250 steps of BERT, 60 of both halves."""
    warm, cold = ordered("bert", "bert"), ordered("rnd", "rnd")
    return Finding(verdict(warm < cold), f"{warm:.4f} against {cold:.4f} nats a token", {"warm": warm, "cold": cold})


@evidence(
    "bert2bert",
    kind="claim",
    claim="A warm encoder is worth more than a warm decoder, and shared halves are as good as two (section 5).",
)
def encoders_matter_most() -> Finding:
    """The same task; as good is within 2 %."""
    figures = {
        "BERT2BERT": ordered("bert", "bert"), "BERTSHARE": ordered("bert", "bert", True),
        "BERT2RND": ordered("bert", "rnd"), "RND2BERT": ordered("rnd", "bert"), "RND2RND": ordered("rnd", "rnd"),
    }  # fmt: skip
    holds = figures["BERT2RND"] < figures["RND2BERT"] and figures["BERTSHARE"] < 1.02 * figures["BERT2BERT"]
    return Finding(verdict(holds), ", ".join(f"{name} {loss:.4f}" for name, loss in figures.items()), figures)


for _system in ("multi-encoder-transformer", "return-of-the-encoder"):
    evidence(_system, kind="learns", claim="After two epochs of Multi30k it is above word-by-word translation.")(
        partial(translates, _system)
    )


@evidence(
    "multi-encoder-transformer", kind="claim", claim="Two kinds of encoder are better than attention alone (table 2)."
)
def two_kinds() -> Finding:
    """Attention beside convolution, two layers each, and attention alone; two epochs of Multi30k."""
    system = "multi-encoder-transformer"
    both, one = (translated(system, encoders=kinds) for kinds in (("attention", "convolution"), ("attention",)))
    return better(both, one, "attention alone")


@evidence(
    "return-of-the-encoder",
    kind="claim",
    claim="Of about as many weights, the first token comes sooner than from a decoder alone, and each further one much sooner "
    "(abstract: 47 % less, 4.7 times the throughput).",
)
@torch.no_grad()
def answers_sooner() -> Finding:
    """Eight and four layers against twelve, untrained, after 512 tokens; processor seconds, the least of three."""
    same: dict[str, Any] = {"vocabulary": 1000, "width": 256, "heads": 4, "key_heads": 2, "head_width": 64}
    models = {
        "halves": ef.create("return-of-the-encoder", **same, hidden=1024, depth=8, decoder_depth=4, seed=0).eval(),
        "decoder": ef.create("llama", **same, hidden=688, depth=12, tied=True, seed=0).eval(),
    }
    inputs = torch.randint(1, 1000, (1, 512), generator=torch.Generator().manual_seed(0))
    figures: dict[str, Any] = {}
    for name, model in models.items():
        begun = {"bos": 1} if name == "halves" else {}
        write = partial(generate, model, inputs, eos=None, pad=0, **begun)
        first, more = processor_seconds(partial(write, max_tokens=1), partial(write, max_tokens=33), repeats=3)
        figures[name] = {"first": first, "each": (more - first) / 32, "parameters": parameters(model)}
    ours, theirs = figures["halves"], figures["decoder"]
    finding = "; ".join(
        f"{name} {1000 * each['first']:.0f} ms, then {1000 * each['each']:.1f} ms each ({each['parameters']:,} parameters)"
        for name, each in figures.items()
    )
    return Finding(verdict(ours["first"] < theirs["first"] and ours["each"] < theirs["each"]), finding, figures)
