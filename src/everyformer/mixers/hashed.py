"""Attention of each token to those that are hashed into its bucket."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.masks import Full, Mask
from everyformer.mixers.shapes import merge, share, split
from everyformer.registry import part
from everyformer.tokens import Tokens, order

SELF = -1e5
"""The score of a token for itself: it looks at itself where there is nothing else (Kitaev et al., 2020, section 2)."""


class Sorted(NamedTuple):
    """Queries or keys in the order of their buckets, in chunks."""

    bucket: Int[Tensor, "B H c m"]
    rank: Int[Tensor, "1 1 c m"]
    """Where each stands in that order."""
    token: Int[Tensor, "B H c m"]
    """Which token each is."""
    place: Int[Tensor, "B H c m"]
    """Where that token stands in its sequence."""


class _Hashed(Mixer):
    """What both forms share: one map for queries and keys, keys of length 1, buckets by random rotations, chunks."""

    rotations: Tensor

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int | None,
        chunk: int,
        rounds: int,
        buckets: int | tuple[int, ...],
        seed: int,
    ) -> None:
        super().__init__()
        self.sides = (buckets,) if isinstance(buckets, int) else tuple(buckets)
        if chunk < 1 or rounds < 1:
            raise ValueError(f"chunk and rounds are at least 1; given {chunk} and {rounds}")
        if any(each < 2 or each % 2 for each in self.sides):
            raise ValueError(f"a rotation hashes into an even number of buckets; given {buckets}")
        self.heads, self.head_width = heads, head_width or share("width", width, heads)
        self.chunk, self.rounds, self.buckets = chunk, rounds, math.prod(self.sides)
        self.query_key = nn.Linear(width, heads * self.head_width, bias=False)
        self.value = nn.Linear(width, heads * self.head_width, bias=False)
        self.output = nn.Linear(heads * self.head_width, width, bias=False)
        shape = heads, self.head_width, rounds, sum(self.sides) // 2
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.register_buffer("rotations", drawn.to(torch.get_default_device()), persistent=False)

    def hash(self, x: Float[Tensor, "B H N K"], real: Bool[Tensor, "#B N"] | None) -> Int[Tensor, "B H R N"]:
        """argmax [x R; -x R] in each round, for each factor of the buckets (section 2); padding has a bucket of its own."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        turned = torch.einsum("bhnk,hkrs->bhrns", x.detach().to(dtype), self.rotations.to(dtype))
        found, factor = torch.zeros_like(turned[..., 0], dtype=torch.long), 1
        for side, each in zip(self.sides, turned.split([side // 2 for side in self.sides], -1), strict=True):
            found = found + factor * torch.cat((each, -each), -1).argmax(-1)
            factor *= side
        return found if real is None else found.where(real[:, None, None], self.buckets)

    def keys(self, x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H N K"]:
        """Queries as keys: of length 1, so that a token does not prefer itself."""
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.head_width**-0.5

    def chunked(
        self,
        query: Float[Tensor, "B H N K"],
        value: Float[Tensor, "B H N K"],
        buckets: Int[Tensor, "B H R N"],
        places: Int[Tensor, "#B N"],
        mask: Mask,
        steps: range,
    ) -> Float[Tensor, "B H N K"]:
        """Attention of each chunk of the tokens in the order of their buckets to those `steps` chunks away, all rounds at once."""
        rounds, count = buckets.shape[2:]
        size = min(self.chunk, count)
        first = torch.arange(rounds, device=buckets.device)[:, None] * (self.buckets + 1)
        bucket, by = (buckets + first).flatten(2).sort(dim=-1, stable=True)
        index, back = by % count, by.argsort(-1)

        def taken(x: Tensor, at: Tensor) -> Tensor:
            return x.gather(2, at[..., None].expand(-1, -1, -1, x.shape[-1]))

        def cut(x: Tensor) -> Tensor:
            return x.unflatten(2, (-1, size))

        chunks = rounds * count // size
        apart = sorted({step % chunks for step in steps})  # of few chunks the one before is also the one after

        def around(x: Tensor) -> Tensor:
            return torch.cat([x.roll(-step, 2) for step in apart], 3)

        rank = torch.arange(rounds * count, device=buckets.device)[None, None]
        place = places[:, None].expand(*index.shape[:2], -1).gather(2, index)
        queries = Sorted(*(cut(each) for each in (bucket, rank, index, place)))
        found = Sorted(*(around(each) for each in queries))
        scores = cut(taken(query, index)) @ around(cut(taken(self.keys(query), index))).mT
        allowed = self.meets(queries, found) & mask.allows(queries.place[..., None], found.place[..., None, :])
        itself = queries.token[..., None] == found.token[..., None, :]
        mixed, total = attended(scores, around(cut(taken(value, index))), allowed, itself)
        mixed, total = (taken(x.flatten(2, 3), back).unflatten(2, (rounds, count)) for x in (mixed, total))
        return (mixed * total.softmax(2).to(mixed.dtype)).sum(2)

    def meets(self, queries: Sorted, keys: Sorted) -> Bool[Tensor, "B H c m n"]:
        """Which keys of the chunks around it a query may meet at all."""
        raise NotImplementedError


def attended(scores: Tensor, value: Tensor, allowed: Tensor, itself: Tensor) -> tuple[Tensor, Tensor]:
    """What each query takes from the keys that it may see, zeros where there are none, and the logarithm of their weight."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).masked_fill(itself & allowed, SELF)
    total = scores.logsumexp(-1, keepdim=True)
    return ((scores - total).exp() * allowed).to(value.dtype) @ value, total


@part("mixers")
class LSHAttention(_Hashed):
    """Each token attends to those of its bucket, the `chunk` nearest on each side (Kitaev et al., Reformer, 2020, section 2).

    Queries are keys. `rounds` hashes into `buckets` (their product, where several are given) are drawn from `seed`; a key
    that is met in several rounds counts as often. What a token meets depends on no later token.
    """

    capabilities = frozenset({"causal", "masked", "padding", "incremental"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        chunk: int = 64,
        rounds: int = 2,
        buckets: int | tuple[int, ...] = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(width, heads, head_width, chunk, rounds, buckets, seed)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from its bucket."""
        context = context or Context()
        query, value = (split(each(tokens.values), self.heads) for each in (self.query_key, self.value))
        buckets = self.hash(query, tokens.mask)
        if context.cache is not None:
            return self.output(merge(self._remembered(query, value, buckets, tokens, context)))
        more = -tokens.count % self.chunk
        places = torch.arange(tokens.count, device=query.device)[None] if tokens.mask is None else order(tokens.mask)
        query, value = (pad(x, (0, 0, 0, more)) for x in (query, value))
        buckets, places = pad(buckets, (0, more), value=self.buckets), pad(places, (0, more))
        mixed = self.chunked(query, value, buckets, places, context.mask, range(-1, 2))
        return self.output(merge(mixed[:, :, : tokens.count]))

    def meets(self, queries: Sorted, keys: Sorted) -> Bool[Tensor, "B H c m n"]:
        """Those of its bucket no further than a chunk away."""
        near = (queries.rank[..., None] - keys.rank[..., None, :]).abs() <= self.chunk
        return near & (queries.bucket[..., None] == keys.bucket[..., None, :])

    def _remembered(
        self, query: Tensor, value: Tensor, buckets: Tensor, tokens: Tokens, context: Context
    ) -> Float[Tensor, "B H N K"]:
        """The same for the last tokens of all that the cache holds."""
        assert context.cache is not None
        kept = context.cache.extend(self, key=self.keys(query), value=value, buckets=buckets.mT)
        place = context.cache.order(tokens)[:, :1, None]
        new = place[..., -tokens.count :]
        same = buckets[..., None] == kept["buckets"].mT[:, :, :, None]
        seen = same.cumsum(-1)
        own = seen.diagonal(seen.shape[-1] - tokens.count, -2, -1)[..., None]
        allowed = same & ((own - seen).abs() <= self.chunk) & context.mask.allows(new[..., None], place[..., None, :])
        itself = new[..., None] == place[..., None, :]
        mixed, total = attended((query @ kept["key"].mT)[:, :, None], kept["value"][:, :, None], allowed, itself)
        return (mixed * total.softmax(2).to(mixed.dtype)).sum(2)


@part("mixers")
class ChunkedLSHAttention(_Hashed):
    """LSH attention as released: to all of the own chunk of the sorted tokens and the one before, of whatever bucket.

    Kitaev et al., Reformer, 2020, official code. Where the chunks are cut depends on all tokens, later ones among them, so
    that it stands in no causal place; `mask` is what a token may see of those that it meets. A sequence of one chunk is
    attended to in full.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        chunk: int = 64,
        rounds: int = 1,
        buckets: int | tuple[int, ...] = 16,
        mask: Mask = Full(),  # noqa: B008
        seed: int = 0,
    ) -> None:
        super().__init__(width, heads, head_width, chunk, rounds, buckets, seed)
        self.mask = mask

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the chunks around it."""
        query, value = (split(each(tokens.values), self.heads) for each in (self.query_key, self.value))
        count, steps = tokens.count, range(-1, 1)
        if count <= self.chunk:
            buckets, steps = torch.zeros_like(query[:, :, None, :, 0], dtype=torch.long), range(1)
        else:
            more = -count % self.chunk
            query, value = (pad(x, (0, 0, 0, more)) for x in (query, value))
            buckets = self.hash(query, torch.arange(count + more, device=query.device)[None] < count)
        places = torch.arange(query.shape[2], device=query.device)[None]
        mixed = self.chunked(query, value, buckets, places, self.mask, steps)
        return self.output(merge(mixed[:, :, :count]))

    def meets(self, queries: Sorted, keys: Sorted) -> Bool[Tensor, "B H c m n"]:
        """All that are no padding."""
        return (keys.bucket % (self.buckets + 1) != self.buckets)[..., None, :].expand(*queries.bucket.shape, -1)
