"""Scaled dot-product attention itself: masks made ready for the cheapest kernel, and the kernels.

Queries are (B, H, N, K), keys and values (B, G, M, K) with G key heads that divide H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.dropout import dropout as random_zeros
from everyformer.masks import Causal, Full, Mask
from everyformer.mixers import flex
from everyformer.tokens import Tokens, order


class Tap(nn.Module):
    """A named point that standard PyTorch hooks read or replace; what passes is formed only while one is watching."""

    def forward(self, x: Tensor) -> Tensor:
        """The value itself."""
        return x


class Taps:
    """The taps of an attention, modules of the part that owns them: `queries` (B, H, N, K), `keys` (B, G, M, K) and
    `values` (B, G, M, V) as the scores are formed of them, `scores` and `weights` (B, H, N, M), `mixed` (B, H, N, V).

    `scores` are what the softmax takes, before what may not be seen is taken out.
    """

    def __init__(self, owner: nn.Module) -> None:
        self.queries, self.keys, self.values, self.scores, self.weights, self.mixed = taps = [Tap() for _ in range(6)]
        for name, tap in zip(("queries", "keys", "values", "scores", "weights", "mixed"), taps, strict=True):
            owner.add_module(name, tap)
        self._hooks = [hooks for tap in taps for hooks in (tap._forward_hooks, tap._forward_pre_hooks)]

    @property
    def watched(self) -> bool:
        """True while a hook is registered at one of them; asked at every call, so the hooks are at hand."""
        return any(self._hooks)


@dataclass(frozen=True)
class Lowered:
    """A mask made ready: a kernel's own causal flag, or what is allowed, or neither where all is."""

    causal: bool = False
    allowed: Bool[Tensor, "#B 1 #N M"] | None = None


@dataclass(frozen=True)
class Sparse(Lowered):
    """A mask as the blocks that FlexAttention works on; `dense` is the same mask for what that kernel does not do."""

    blocks: Any = None
    form: Callable[[], Lowered] = Lowered

    @cached_property
    def dense(self) -> Lowered:
        """The mask as a tensor, formed when it is first asked for."""
        return self.form()


def lower(mask: Mask, tokens: Tokens, context: Context) -> Lowered:
    """The cheapest form of a place's mask over `tokens` attending to themselves and to what the cache holds."""
    key = mask, tokens.count, None if tokens.mask is None else id(tokens.mask)
    if key not in context.lowered:
        context.lowered[key] = tokens.mask, _lower(mask, tokens, context)
    return context.lowered[key][1]


def _lower(mask: Mask, tokens: Tokens, context: Context) -> Lowered:
    count, device = tokens.count, tokens.values.device
    seen = tokens.mask if context.cache is None else context.cache.seen(tokens)
    all_allowed = isinstance(mask, Full) or (mask == Causal() and count == 1)
    if all_allowed:
        return Lowered(allowed=None if seen is None else seen[:, None, None, :])
    if seen is None and mask == Causal() and context.past() == 0:
        return Lowered(causal=True)
    if context.cache is None and flex.worthwhile(mask, count, device):
        made = flex.blocks(mask, count, device) if seen is None else flex.padded_blocks(mask, order(seen), seen)
        return Sparse(blocks=made, form=lambda: _dense(mask, tokens, context, seen))
    return _dense(mask, tokens, context, seen)


def _dense(mask: Mask, tokens: Tokens, context: Context, seen: Tensor | None) -> Lowered:
    past = context.past()
    if context.cache is not None:
        places = context.cache.order(tokens)
    elif seen is None:
        places = torch.arange(tokens.count, device=tokens.values.device)[None]
    else:
        places = order(seen)
    allowed = mask.allows(places[:, past:, None], places[:, None, :])[:, None]
    return Lowered(allowed=allowed if seen is None else allowed & seen[:, None, None, :])


def lower_memory(memory: Tokens) -> Lowered:
    """Which tokens of a memory are real."""
    return Lowered(allowed=None if memory.mask is None else memory.mask[:, None, None, :])


def attend(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B G M V"],
    *,
    lowered: Lowered,
    scale: float,
    bias: Float[Tensor, "#B #H #N M"] | None = None,
    dropout: float = 0.0,
    taps: Taps | None = None,
) -> Float[Tensor, "B H N V"]:
    """softmax(q k^T scale + bias) v under a mask; a query that may see nothing gets zeros.

    The weights are formed only while `taps` are watched, and where forming them is faster.
    """
    if taps is not None and not taps.watched:
        taps = None
    if isinstance(lowered, Sparse):
        if bias is None and not dropout and taps is None:
            return flex.flex(query, key, value, lowered.blocks, scale)
        lowered = lowered.dense
    if taps is not None:
        query, key, value = taps.queries(query), taps.keys(key), taps.values(value)
        return taps.mixed(_explicit(query, key, value, lowered, scale, bias, dropout, taps))
    if _short_training(query, key):
        return _explicit(query, key, value, lowered, scale, bias, dropout, None)
    grouped = key.shape[1] != query.shape[1]
    mask = lowered.allowed
    causal = lowered.causal
    if bias is not None:
        if causal:
            n, m = query.shape[2], key.shape[2]
            mask, causal = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n), False
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _short_training(query: Tensor, key: Tensor) -> bool:
    """Where the CPU's fused kernel has a backward pass 1.5 to 12 times slower than the products written out."""
    return (
        query.device.type == "cpu"
        and query.dtype != torch.float32
        and query.requires_grad
        and query.shape[2] * key.shape[2] <= 512 * 512
    )


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lowered: Lowered,
    scale: float,
    bias: Tensor | None,
    dropout: float,
    taps: Taps | None,
) -> Tensor:
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = query @ key.transpose(-1, -2) * scale
    if bias is not None:
        scores = scores + bias
    if taps is not None:
        scores = taps.scores(scores)
    allowed = lowered.allowed
    if lowered.causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if allowed is not None:
        weights = weights * allowed
    weights = weights.to(value.dtype)
    if taps is not None:
        weights = taps.weights(weights)
    return (random_zeros(weights, dropout) if dropout else weights) @ value


def groups(tokens: Tokens) -> list[tuple[Tensor, Tokens]]:
    """Packed tokens as dense groups of sequences of equal length: (index (S, L) into the packed tokens, tokens)."""
    assert tokens.lengths is not None
    starts = tokens.lengths.cumsum(0) - tokens.lengths
    found = []
    for length in tokens.lengths.unique().tolist():
        if length:
            rows = starts[tokens.lengths == length]
            index = rows[:, None] + torch.arange(length, device=rows.device)
            weights = None if tokens.weights is None else tokens.weights[0][index]
            found.append((index, Tokens(tokens.values[0][index], positions=tokens.places[0][index], weights=weights)))
    return found


__all__ = ["Lowered", "Tap", "Taps", "attend", "groups", "lower", "lower_memory"]
