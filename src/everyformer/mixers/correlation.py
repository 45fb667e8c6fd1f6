"""Attention that is held against a Gaussian of the distance on the grid: one is pushed away from it, one towards it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.auxiliary import Auxiliary
from everyformer.context import Context
from everyformer.contracts import Mixer, mix
from everyformer.errors import BadInput
from everyformer.mixers.attend import softmax
from everyformer.mixers.lowering import lower_memory
from everyformer.mixers.shapes import merge, split
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

_EPS = 1e-4


def divergence(p: Float[Tensor, "B H N M"], q: Float[Tensor, "B H N M"]) -> Float[Tensor, "B N"]:
    """KL(p || q) + KL(q || p) of each query, the mean over the heads."""
    return ((p - q) * ((p + _EPS).log() - (q + _EPS).log())).sum(-1).mean(1)


def entropy(p: Float[Tensor, "B H N M"]) -> Float[Tensor, "B N"]:
    """-sum p log p of each query, the mean over the heads."""
    return -(p * (p + _EPS).log()).sum(-1).mean(1)


class _Correlation(Mixer):
    """Attention without a map after it, and its target: a Gaussian of the distance along either axis of the grid, as wide as a
    map of the query's token says, 3^sigmoid(5 s) - 1, for each head.

    Of both a loss is said, weighed by `share`: D(S, T) of the targets T, less D(S, T) and the entropy of the weights S.
    """

    def __init__(self, width: int, *, heads: int = 8, share: float = 0.25) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.spread = nn.Linear(width, 2 * heads)
        self.said = Auxiliary(share)

    def mixed(self, tokens: Tokens, memory: Tokens, notes: dict[str, Tensor] | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes of a memory; D(S, T) is added to the `notes`, (L, B, N) after L layers."""
        if tokens.grid is None:
            raise BadInput(
                f"{type(self).__name__} expected tokens that fill a grid; given {tokens.count} tokens that fill none; take an "
                "embedding of pictures, and nothing before this that drops tokens, pads or packs"
            )
        query, key, value = (
            split(each, self.heads) for each in (self.query(tokens.values), *self.key_value(memory.values).chunk(2, -1))
        )
        allowed = lower_memory(memory).explicit(query.shape[2], query.device)
        weights = softmax(query @ key.mT * query.shape[-1] ** -0.5, allowed)
        if notes is not None or self.said.heard is not None:
            target = self.target(tokens, memory, allowed).to(weights.dtype)
            if notes is not None:
                off = divergence(weights, target)[None]
                notes["divergence"] = torch.cat((notes.get("divergence", off[:0]), off))
            moved, pushed = divergence(weights.detach(), target), divergence(weights, target.detach())
            self.said((moved - pushed - entropy(weights)).mean())
        return merge(weights @ value)

    def target(
        self, tokens: Tokens, memory: Tokens, allowed: Bool[Tensor, "#B #H #N M"] | None
    ) -> Float[Tensor, "B H N M"]:
        """exp(-dy^2 / (2 s_1^2) - dx^2 / (2 s_2^2)) over its sum; what stands on a line stands in one row."""
        spread = self.spread(tokens.values)
        spread = spread.to(torch.promote_types(spread.dtype, torch.float32))
        wide = 3 ** (torch.sigmoid(5 * spread) + 1e-5) - 1
        rates = -0.5 / wide.unflatten(-1, (self.heads, 2)).transpose(1, 2).square()
        here, there = (F.pad(each.places, (2 - each.places.shape[-1], 0)).to(wide.dtype) for each in (tokens, memory))
        rows, columns = (here[:, None, :, None] - there[:, None, None]).square().unbind(-1)
        return softmax(rows * rates[..., :1] + columns * rates[..., 1:], allowed)


@part("mixers")
class Correlation(_Correlation):
    """Attention of the tokens over themselves, pushed away from what is near by and towards high entropy (Yao et al., Focus
    the Discrepancy, 2023, section 3.2, intra-correlation; sizes and signs are the official code's).
    """

    capabilities = frozenset({"grid"})

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from all of them."""
        return self.mixed(tokens, tokens)


@part("mixers")
class CrossCorrelation(_Correlation):
    """Attention of the tokens over a memory of what is normal in each place, drawn to what is near by and to low entropy
    (section 3.3, inter-correlation): its share is negative.

    Where notes are asked for, D(S, T) of each token is added to them as 'divergence'.
    """

    capabilities = frozenset({"grid", "memory"})

    def __init__(self, width: int, *, heads: int = 8, memory: str = "encoder", share: float = -0.25) -> None:
        super().__init__(width, heads=heads, share=share)
        self.memory = memory

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the memory."""
        context = context or Context()
        return self.mixed(tokens, context.read(self.memory, "CrossCorrelation"), context.notes)


@part("mixers")
class Difference(Mixer):
    """What one mixer says of the tokens, less what another says."""

    def __init__(self, width: int, *, first: Spec[Mixer], second: Spec[Mixer]) -> None:
        super().__init__()
        self.first: Mixer = self.make("first", first, width)
        self.second: Mixer = self.make("second", second, width)
        self.capabilities = (self.first.capabilities | self.second.capabilities) & {"grid"} | {"padding", "packed"}

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The difference."""
        context = context or Context()
        return mix(self.first, tokens, context) - mix(self.second, tokens, context)
