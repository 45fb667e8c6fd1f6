"""Attention in which a key counts for a query by the chance that a random hash puts both into one bucket."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens

PIECE = 8
"""Channels of the values whose products with queries or keys are summed by buckets at once."""


@part("mixers")
class BernoulliAttention(Mixer):
    """sum_j (1 - arccos(q_i k_j) / pi)^bits v_j for queries and keys of length 1, itself brought to length 1.

    Zeng et al., YOSO, 2021, section 3: the weight is the chance that `bits` random planes leave q_i and k_j on the same
    sides. The derivative of the weight w by q_i k_j is taken as w `bits` / 2, a bound of it that stays finite (section 3.3). A
    depthwise convolution of the values over `kernel` tokens is added, where given.
    """

    capabilities = frozenset({"padding"})

    def __init__(
        self, width: int, *, heads: int = 8, bits: int = 9, kernel: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        if bits < 1:
            raise ValueError(f"a hash has at least 1 bit; given {bits}")
        if kernel is not None and kernel % 2 == 0:
            raise ValueError(f"kernel is odd, so that a token stands in the middle; given {kernel}")
        self.heads, self.head_width, self.bits = heads, share("width", width, heads), bits
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.conv = None
        if kernel is not None:
            self.capabilities = self.capabilities | {"ordered"}
            self.conv = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), bias=False, groups=heads)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        context = context or Context()
        if context.cache is not None:
            raise BadInput("every token counts for every other; generate without a cache")
        query, key, value = (split(x, self.heads) for x in self.qkv(tokens.values).chunk(3, -1))
        if tokens.mask is not None:
            value = value * tokens.mask[:, None, :, None]
        mixed = self.collide(F.normalize(query, dim=-1), F.normalize(key, dim=-1), value, context)
        mixed = F.normalize(mixed, dim=-1)
        return self.output(merge(mixed if self.conv is None else mixed + self.conv(value)))

    def collide(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H N K"],
        value: Float[Tensor, "B H N K"],
        context: Context,
    ) -> Float[Tensor, "B H N K"]:
        """The sum of the values, each by the chance that its key meets the query."""
        cosine = query @ key.mT
        angle = cosine.detach().to(torch.promote_types(cosine.dtype, torch.float32)).clamp(-1, 1).acos()
        chance = ((1 - angle / math.pi) ** self.bits).to(cosine.dtype)
        return chance * (1 + self.bits / 2 * (cosine - cosine.detach())) @ value


@part("mixers")
class SampledBernoulliAttention(BernoulliAttention):
    """The same by `hashes` draws of the planes: the values of a bucket are summed once, and each query reads its own.

    Zeng et al., YOSO, 2021, sections 3.2 and 3.3; forth and back at a cost that grows with N, not with its square. In training
    planes are drawn for each pass, in evaluation from `seed`.
    """

    drawn: Tensor

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        bits: int = 9,
        hashes: int = 64,
        kernel: int | None = None,
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(width, heads=heads, bits=bits, kernel=kernel, bias=bias)
        if hashes < 1:
            raise ValueError(f"hashes is at least 1; given {hashes}")
        self.shape = heads, hashes, self.head_width, bits
        drawn = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.register_buffer("drawn", drawn.to(torch.get_default_device()), persistent=False)

    def collide(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H N K"],
        value: Float[Tensor, "B H N K"],
        context: Context,
    ) -> Float[Tensor, "B H N K"]:
        """The mean over the draws of the sum of the values in the bucket of each query."""
        planes = self.planes(query, context.generator)
        with torch.no_grad():
            buckets = hashed(query, planes), hashed(key, planes)
        found: Tensor = _Buckets.apply(query, key, value, *buckets, self.bits)
        return found

    def planes(self, query: Tensor, generator: torch.Generator | None) -> Float[Tensor, "H R K b"]:
        """The normals of the planes of each draw."""
        if not self.training:
            return self.drawn
        return torch.randn(self.shape, dtype=query.dtype, device=query.device, generator=generator)


def hashed(x: Float[Tensor, "B H N K"], planes: Float[Tensor, "H R K b"]) -> Int[Tensor, "B H R N"]:
    """The bucket of each in each draw: one bit for the side of each plane."""
    sides = x[:, :, None] @ planes > 0
    return (sides * 2 ** torch.arange(planes.shape[-1], device=x.device)).sum(-1)


def by_bucket(
    values: Float[Tensor, "B H N E"], into: Int[Tensor, "B H N"], out: Int[Tensor, "B H M"], size: int
) -> Float[Tensor, "B H M E"]:
    """For each bucket of `out` the sum of the values that were put `into` it."""
    table = values.new_zeros(*values.shape[:2], size, values.shape[3])
    table = table.scatter_add(2, into[..., None].expand_as(values), values)
    return table.gather(2, out[..., None].expand(-1, -1, -1, values.shape[3]))


class _Buckets(torch.autograd.Function):
    """What queries read of the values by buckets, with w `bits` / 2 for the derivative of each weight w by its cosine."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, asked: Tensor, told: Tensor, bits: int
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(query, key, value, asked, told)
        ctx.bits = bits
        found = torch.zeros_like(value)
        for into, out in zip(told.unbind(2), asked.unbind(2), strict=True):
            found = found + by_bucket(value, into, out, 2**bits)
        return found / told.shape[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """sum_j w_ij (g_i v_j) k_j and its like, a few channels of g and v at a time."""
        query, key, value, asked, told = ctx.saved_tensors
        size, slope = 2**ctx.bits, ctx.bits / 2
        found = [torch.zeros_like(each) for each in (query, key, value)]

        def moved(weights: Tensor, given: Tensor, by: Tensor, into: Tensor, out: Tensor) -> Tensor:
            outer = (given[..., None] * by[..., None, :]).flatten(-2)
            return (weights[..., None] * by_bucket(outer, into, out, size).unflatten(-1, (-1, by.shape[-1]))).sum(-2)

        for at, to in zip(asked.unbind(2), told.unbind(2), strict=True):
            found[2] += by_bucket(grad, at, to, size)
            for g, v in zip(grad.split(PIECE, -1), value.split(PIECE, -1), strict=True):
                found[0] += slope * moved(g, v, key, to, at)
                found[1] += slope * moved(v, g, query, at, to)
        return *(each / told.shape[2] for each in found), None, None, None
