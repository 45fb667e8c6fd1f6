"""Evidence for a cache by chunks, on the decoder that the other caches are tried on: lines of Shakespeare."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.data.tasks.language import LanguageModelling
from everyformer.evidence.caches import LENGTH, decoder, finding, held_out, token_by_token
from everyformer.evidence.harness import Finding, evidence
from everyformer.evidence.long_decoders import streams
from everyformer.generation import Chunks, chunkllm
from everyformer.generation.chunks import apart, attended, best, number, scores, to_chunks
from everyformer.recipe import load_recipe


@cache
def texts() -> tuple[list[Tensor], int]:
    """Batches of the training part, of the length of training, and the token that ends a line."""
    task = LanguageModelling.open(**load_recipe("shakespeare").data)
    rows = streams(task.parts["train"], len(task.parts["train"]) // LENGTH)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return [rows[each] for each in order[:256].split(8)], int(task.vocabulary.encode("\n")[0])


def line_ends(ids: Tensor) -> Tensor:
    """Where a line ends."""
    return ids == texts()[1]


@cache
def policy() -> Chunks:
    """200 steps of the adapters on 32 batches of 8 windows."""
    return chunkllm(decoder(), texts()[0], line_ends, keep=0.5, lr=3e-3)  # type: ignore[arg-type]


class Last(Chunks):
    """The same, but that the last chunks stay."""

    def chosen(self, scores: Tensor, ends: Tensor, ended: Tensor) -> Tensor:
        """The last of them."""
        return best(torch.arange(ends.shape[1]).expand_as(ends).float(), ends, self.most(ended))


class Drawn(Chunks):
    """The same, but that chance says which stay."""

    def chosen(self, scores: Tensor, ends: Tensor, ended: Tensor) -> Tensor:
        """Any of them."""
        drawn = torch.rand(ends.shape, generator=torch.Generator().manual_seed(ends.shape[1]))
        return best(drawn, ends, self.most(ended))


@evidence(
    "chunkllm",
    kind="claim",
    claim="With about half of the cache nearly all of the quality stays, and what the adapters choose is better than the last "
    "chunks or any (abstract).",
)
def chosen_chunks() -> Finding:
    """Half of the lines: nats a character past the first 64, and the share of the cache that is held at the end."""
    adapters = policy().adapters
    ways = {"chosen": policy(), "the last": Last(adapters=adapters), "at random": Drawn(adapters=adapters)}
    figures = token_by_token({"all": None, **ways})
    cached = Context(cache=Cache(policy()))
    with torch.no_grad():
        for each in held_out()[:, :-1].split(1, 1):
            decoder().decode(each, cached)  # type: ignore[operator]
    mask = cached.cache.mask  # type: ignore[union-attr]
    figures["share held"] = float(mask.sum() if mask is not None else held_out()[:, :-1].numel()) / LENGTH / 6
    held = (
        figures["chosen"] < min(figures["the last"], figures["at random"]) and figures["chosen"] < 1.02 * figures["all"]
    )
    return finding(figures, held)


@evidence(
    "chunkllm",
    kind="claim",
    claim="Distilled adapters find the chunks that the layers attend to most, and where chunks end.",
)
@torch.no_grad()
def chunks_are_found() -> Finding:
    """On held-out text, at the end of each line: how many of the half that a layer attends to most the adapters name."""
    ids, adapters = held_out()[:, :-1], policy().adapters
    ends, layers = line_ends(ids), attended(decoder(), ids)  # type: ignore[arg-type]
    given, chunk = adapters.given(layers), number(ends)
    told, seen = to_chunks(layers, ends)
    seen = seen.expand_as(told)
    half = (0.5 * seen.sum(-1)).round().long().clamp(min=1)
    wanted = best(told, seen, half[..., None])
    asked = (ends & (chunk > 0))[:, None].expand(told.shape[:3])
    ways = {
        "adapters": scores(adapters.queries(given), adapters.keys(given)),
        "the last": torch.arange(LENGTH).float().expand_as(told),
        "at random": torch.rand(told.shape, generator=torch.Generator().manual_seed(0)),
    }
    figures = {
        name: float((best(worth, seen, half[..., None]) & wanted).sum(-1)[asked].sum() / wanted.sum(-1)[asked].sum())
        for name, worth in ways.items()
    }
    figures["ends"] = float(((adapters.ends(given) > 0) == ends).float().mean())
    held = figures["adapters"] > max(0.8, figures["the last"], figures["at random"]) and figures["ends"] > 0.99
    return finding(figures, held, "share of the chunks attended to most that are named, and of tokens right about ends")


@evidence(
    "chunkllm",
    kind="learns",
    claim="On held-out text the adapters tell which chunks a layer attends to better than how far back they lie does.",
)
@torch.no_grad()
def better_than_distance() -> Finding:
    """KL from the attention to the lines before, at the end of each: of the adapters, of the mean attention in training to a line
    so many back, layer by layer, and of all lines alike.
    """
    made: Any = decoder()
    total, times = torch.zeros(len(policy().adapters.query), LENGTH), torch.zeros(LENGTH)
    for ids in texts()[0][:8]:
        told, back, asked = _lines_back(attended(made, ids), line_ends(ids))
        at = back[asked]
        total.index_add_(1, at, told.movedim(1, 0)[:, asked])
        times.index_add_(0, at, torch.ones(len(at)))
    ids, adapters = held_out()[:, :-1], policy().adapters
    ends, layers = line_ends(ids), attended(made, ids)
    given, (told, seen) = adapters.given(layers), to_chunks(layers, ends)
    _, back, _ = _lines_back(layers, ends)
    by_distance = ((total + 1e-6) / (times + 1)).log()[:, back].transpose(0, 1)
    ways = {
        "adapters": scores(adapters.queries(given), adapters.keys(given)),
        "distance": by_distance,
        "all alike": torch.zeros_like(told),
    }
    figures = {name: float(apart(told, said, seen, ends)) for name, said in ways.items()}
    return finding(figures, figures["adapters"] < min(figures["distance"], figures["all alike"]), "nats apart")


def _lines_back(layers: Any, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention to lines, how many lines back each is from the end that asks, and where an end asks of one that it sees."""
    told, seen = to_chunks(layers, ends)
    chunk = number(ends)
    return told, (chunk[:, :, None] - chunk[:, None, :]).clamp(min=0), seen[:, 0] & ends[:, :, None]
