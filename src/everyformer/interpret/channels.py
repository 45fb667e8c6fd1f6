"""What an earlier head writes and a later one reads, from the weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import DoesNotFit
from everyformer.mixers import Attention
from everyformer.registry import method


@dataclass(frozen=True)
class Head:
    """The weights of one head; a row vector x writes x @ ov, and x, y score x @ qk @ y."""

    ov: Float[Tensor, "D D"]
    qk: Float[Tensor, "D D"]


def heads_of(mixer: nn.Module) -> list[Head]:
    """The heads of an attention that adds or biases positions; biases of the maps are left out."""
    if not isinstance(mixer, Attention):
        raise DoesNotFit(f"channels are read from Attention, not from {type(mixer).__name__}", "mixer")
    query, key, value = mixer.qkv.weight.detach().split(mixer.sizes, 0)
    shared = mixer.heads // mixer.key_heads
    query, out = query.unflatten(0, (mixer.heads, -1)), mixer.output.weight.detach().unflatten(1, (mixer.heads, -1))
    key, value = (x.unflatten(0, (mixer.key_heads, -1)).repeat_interleave(shared, 0) for x in (key, value))
    return [Head(value[h].mT @ out[:, h].mT, query[h].mT @ key[h]) for h in range(mixer.heads)]


def composition(one: Float[Tensor, "D D"], other: Float[Tensor, "D D"]) -> float:
    """||A B|| / (||A|| ||B||): how much of what A writes B reads (Elhage et al., 2021)."""
    return float((one @ other).norm() / (one.norm() * other.norm()))


@dataclass(frozen=True)
class Channels:
    """The rank-one components of a writer, and how much a reader takes of each."""

    left: Float[Tensor, "D R"]
    strength: Float[Tensor, " R"]
    right: Float[Tensor, "R D"]
    score: Float[Tensor, " R"]
    """The composition score of each component alone."""

    def without(self, component: int) -> Float[Tensor, "D D"]:
        """The writer's weights with one component taken out."""
        kept = self.strength.clone()
        kept[component] = 0
        return self.left * kept @ self.right


@method(
    "talking-heads-channels",
    title="Talking Heads: Understanding Inter-layer Communication in Transformer Language Models",
    authors="Merullo et al.",
    year=2024,
    arxiv="2406.09519",
    idea="One or two rank-one components of what a head writes carry all that a later head reads of it.",
)
def channels(writer: Float[Tensor, "D D"], reader: Float[Tensor, "D D"]) -> Channels:
    """The writer's components by singular values, each with its composition score with the reader (section 3).

    The reader is a later head's `qk` (its query side), `qk.mT` (its key side) or `ov` (its values).
    """
    left, strength, right = torch.linalg.svd(writer)
    rank = int((strength > strength[0] * len(strength) * torch.finfo(strength.dtype).eps).sum())
    left, strength, right = left[:, :rank], strength[:rank], right[:rank]
    score = (right @ reader).norm(dim=-1) / reader.norm()
    return Channels(left, strength, right, score)
