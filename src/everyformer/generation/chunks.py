"""A cache by chunks of text: where one ends, small trained adapters say which of those before are still attended to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.cache import Cache, Policy
from everyformer.context import Context
from everyformer.designs import seeded
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.eviction import shown
from everyformer.generation.generate import evaluating
from everyformer.mixers.attend import softmax
from everyformer.mixers.attended import Attended
from everyformer.models import Model
from everyformer.registry import method, part

Ends = Callable[[Int[Tensor, "B N"]], Bool[Tensor, "B N"]]
"""Which tokens end a chunk, by a rule that may look ahead: a splitter of sentences."""


class ChunkAdapters(nn.Module):
    """What is trained beside a decoder: of each layer a small query and a small key, and where chunks end.

    Built with the width of each layer's input. The ends are read from what the second layer attends with, the output of
    the first, normed; the small queries and keys from what each layer's own are made of.
    """

    def __init__(self, widths: Sequence[int], *, rank: int = 16) -> None:
        super().__init__()
        if len(widths) < 2 or rank < 1:
            raise BadInput(f"adapters are for 2 layers or more, of rank 1 or more; given {len(widths)} and rank {rank}")
        self.query = nn.ModuleList(nn.Linear(width, rank) for width in widths)
        self.key = nn.ModuleList(nn.Linear(width, rank) for width in widths)
        self.end = nn.Linear(widths[1], 1)

    @classmethod
    def of(cls, model: Model, ids: Int[Tensor, "B N"], *, rank: int = 16) -> Self:
        """For the layers of a decoder, seen on some ids."""
        widths = [each.tokens.values.shape[-1] for each in attended(model, ids) if each.tokens is not None]
        return cls(widths, rank=rank).to(ids.device)

    def given(self, layers: Sequence[Attended]) -> list[Float[Tensor, "B N D"]]:
        """The input of each layer."""
        found = [each.tokens.values for each in layers if each.tokens is not None]
        if [each.shape[-1] for each in found] != [each.in_features for each in self.query]:  # type: ignore[union-attr]
            raise DoesNotFit(
                f"adapters for {len(self.query)} layers, and {len(found)} show what they attend with; "
                "make them for this model",
                "policy",
            )
        return found

    def ends(self, given: Sequence[Float[Tensor, "B N D"]]) -> Float[Tensor, "B N"]:
        """How surely each token ends a chunk: above 0 it does."""
        return self.end(given[1])[..., 0]

    def keys(self, given: Sequence[Float[Tensor, "B N D"]]) -> Float[Tensor, "B L N R"]:
        """The small key of each token in each layer."""
        return torch.stack([make(x) for make, x in zip(self.key, given, strict=True)], 1)

    def queries(self, given: Sequence[Float[Tensor, "B N D"]]) -> Float[Tensor, "B L N R"]:
        """The small query of each token in each layer."""
        return torch.stack([make(x) for make, x in zip(self.query, given, strict=True)], 1)


def scores(query: Float[Tensor, "B L N R"], key: Float[Tensor, "B L M R"]) -> Float[Tensor, "B L N M"]:
    """What the softmax over chunks takes: a chunk has the small key of the token that ends it."""
    return query @ key.mT * query.shape[-1] ** -0.5


def number(ends: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """The chunk of each token; the token that ends a chunk is its last."""
    return ends.long().cumsum(1) - ends.long()


def best(worth: Float[Tensor, "*b M"], among: Bool[Tensor, "*b M"], room: Int[Tensor, "..."]) -> Bool[Tensor, "*b M"]:
    """The `room` worth most of those that it is among, the earlier of equals."""
    rank = worth.masked_fill(~among, float("-inf")).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return among & (rank < room)


@part("generation")
class Chunks(Policy):
    """Where a token ends a chunk, the `keep` chunks stay that most layers' adapters choose (Ouyang et al., ChunkLLM, 2025).

    `keep` is a share of the chunks that have ended, or a number of them; the chunk that is being written stays, and between
    ends all does. Every layer keeps the same. What is not chosen is not held, so that it cannot be chosen again.
    """

    gathers = True

    def __init__(self, *, adapters: ChunkAdapters, keep: float = 0.5) -> None:
        super().__init__()
        if keep <= 0 or (isinstance(keep, float) and keep > 1):
            raise BadInput(f"keep is {keep}; give a share of the chunks, above 0 and at most 1.0, or a number of them")
        self.adapters, self.keep = adapters, keep

    def stays(self, cache: Cache, attended: Sequence[Attended] | None = None) -> Bool[Tensor, "B M"] | None:
        """The tokens of the chunks chosen by the last token of this pass that ends one, of each sequence that has such."""
        assert attended is not None
        given = self.adapters.given(attended)
        new = self.adapters.ends(given) > 0
        if cache.mask is not None:
            new = new & cache.mask[:, -new.shape[1] :]
        before = cache.states.get(self, {}).get("ended", new.new_zeros(len(new), 1, dtype=torch.long))
        ended = before + new.sum(1, keepdim=True)
        cache.states[self] = {"ended": ended}
        held = cache.extend(
            self,
            small=self.adapters.keys(given),
            chunk=(before + number(new))[:, None, :, None],
            ends=new[:, None, :, None],
        )
        asks = new.any(1, keepdim=True)
        if not bool(asks.any()):
            return None
        chunk, ends = held["chunk"][:, 0, :, 0], held["ends"][:, 0, :, 0]
        ends = ends if cache.mask is None else ends & cache.mask
        last = new.shape[1] - 1 - new.flip(1).int().argmax(1)
        query = self.adapters.queries(given)[torch.arange(len(last), device=last.device), :, last]
        chosen = self.chosen(scores(query[:, :, None], held["small"])[:, :, 0], ends, ended)
        none = int(ended.max()) + 1
        stays = torch.zeros(len(ends), none + 1, dtype=torch.bool, device=ends.device)
        stays = stays.scatter(1, torch.where(chosen, chunk, none), True)
        stays[:, none] = False
        return stays.gather(1, chunk) | (chunk == ended) | ~asks

    def chosen(
        self, scores: Float[Tensor, "B L M"], ends: Bool[Tensor, "B M"], ended: Int[Tensor, "B 1"]
    ) -> Bool[Tensor, "B M"]:
        """The chunks, by their ends, that most layers have among their best; of equals those with most attention."""
        among, room = ends[:, None].expand_as(scores), self.most(ended)
        weights = softmax(scores[:, :, None], among[:, :, None])[:, :, 0]
        votes = best(weights, among, room[:, None]).sum(1)
        return best(votes + 0.5 * weights.mean(1), ends, room)

    def most(self, ended: Int[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
        """How many chunks stay, of so many that have ended."""
        if isinstance(self.keep, int):
            return torch.full_like(ended, self.keep)
        return (self.keep * ended.double()).round().long().clamp(min=1)


def distilled(adapters: ChunkAdapters, layers: Sequence[Attended], ends: Bool[Tensor, "B N"]) -> Tensor:
    """What the adapters are trained by: BCE of the ends + KL(chunks attended to, chunks that they tell), at every end."""
    given = adapters.given(layers)
    told, seen = to_chunks(layers, ends)
    missed = apart(told, scores(adapters.queries(given), adapters.keys(given)), seen, ends)
    return F.binary_cross_entropy_with_logits(adapters.ends(given), ends.to(given[0].dtype)) + missed


def to_chunks(
    layers: Sequence[Attended], ends: Bool[Tensor, "B N"]
) -> tuple[Float[Tensor, "B L N M"], Bool[Tensor, "B 1 N M"]]:
    """How much each token attends to each chunk before it, at the token that ends it, and which those are.

    What a chunk is attended to is what its tokens together are, in the mean over the heads of a layer.
    """
    chunk, last = number(ends), ends[:, None, :]
    of = (chunk[:, :, None] == chunk[:, None, :]) & last
    seen = last & torch.ones(ends.shape[1], ends.shape[1], dtype=torch.bool, device=ends.device).tril()
    weights = torch.stack([each.weights().mean(1) for each in layers], 1)
    return weights @ of[:, None].to(weights.dtype), seen[:, None]


def apart(
    told: Float[Tensor, "B L N M"],
    said: Float[Tensor, "B L N M"],
    seen: Bool[Tensor, "B 1 N M"],
    ends: Bool[Tensor, "B N"],
) -> Float[Tensor, ""]:
    """KL(told, softmax of `said` over the chunks seen), the mean over layers and ends."""
    said = said.masked_fill(~seen, torch.finfo(said.dtype).min).log_softmax(-1)
    each = (torch.xlogy(told, told) - told * said).masked_fill(~seen, 0).sum(-1)
    return each.masked_select(ends[:, None].expand_as(each)).mean()


@method(
    "chunkllm",
    title="ChunkLLM: A Lightweight Pluggable Framework for Accelerating LLMs Inference",
    authors="Ouyang et al.",
    year=2025,
    arxiv="2510.02361",
    idea="Small adapters beside a frozen decoder learn where chunks of text end and which of them it attends to; the rest is dropped.",
)
def chunkllm(
    model: Model,
    texts: Sequence[Int[Tensor, "B N"]],
    ends: Ends,
    *,
    keep: float = 0.5,
    rank: int = 16,
    steps: int = 200,
    lr: float = 1e-3,
    seed: int = 0,
) -> Chunks:
    """The policy, for `generate(model, ..., policy=chunkllm(model, texts, ends))`, with adapters trained on batches of ids.

    The model stays as it is, bit for bit.
    """
    shown(model)
    if steps < 1 or not texts:
        raise BadInput(f"adapters are trained for 1 step or more on some texts; given {steps} and {len(texts)} batches")
    found = [ends(ids) for ids in texts]
    if not all(bool(each.any()) for each in found):
        raise BadInput("a batch of texts has no token that ends a chunk; give longer texts or another rule")
    with evaluating(model), seeded(seed), torch.enable_grad():
        adapters = ChunkAdapters.of(model, texts[0][:1], rank=rank)
        adam = torch.optim.Adam(adapters.parameters(), lr)
        for ids, last in islice(cycle(zip(texts, found, strict=True)), steps):
            loss = distilled(adapters, attended(model, ids), last)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return Chunks(adapters=adapters.eval().requires_grad_(False), keep=keep)


@torch.no_grad()
def attended(model: Model, ids: Int[Tensor, "B N"]) -> list[Attended]:
    """What each layer attends with."""
    context = Context(gathered=[])
    model.features(ids, context=context)
    assert context.gathered is not None
    return context.gathered
