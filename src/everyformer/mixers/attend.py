"""Scaled dot-product attention itself: one function, on the fastest kernel that does what is asked.

Queries are (B, H, N, K), keys (B, G, M, K) with G key heads that divide H, and values (B, P, M, V) with as many heads, or
others that divide H.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Normaliser, Scored, ScoreStep
from everyformer.dropout import dropout as random_zeros
from everyformer.mixers import flex, kernels
from everyformer.mixers.lowering import Deferred, Lowered, Sparse, lower, lower_memory


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
        formed = self.scores, self.weights
        self._formed = [hooks for tap in formed for hooks in (tap._forward_hooks, tap._forward_pre_hooks)]

    @property
    def watched(self) -> bool:
        """True while a hook is registered at one of them; asked at every call, so the hooks are at hand."""
        return any(self._hooks)

    @property
    def formed(self) -> bool:
        """True while a hook asks for scores or weights, which a fast kernel never forms."""
        return any(self._formed)


def attend(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B P M V"],
    *,
    lowered: Lowered,
    scale: float,
    bias: Float[Tensor, "#B #H #N M"] | None = None,
    mass: Float[Tensor, "B M"] | None = None,
    dropout: float = 0.0,
    taps: Taps | None = None,
    normaliser: Normaliser | None = None,
    steps: Iterable[ScoreStep] = (),
    places: tuple[Shaped[Tensor, "#B N k"], Shaped[Tensor, "#B M k"]] | None = None,
    context: Context | None = None,
) -> Float[Tensor, "B W N V"]:
    """softmax(q k^T scale + bias) v under a mask; a query that may see nothing gets zeros. A step may make W heads of H.

    A key of `mass` m counts as m keys.

    Scores and weights are formed only while a tap asks for them, where a `normaliser` stands in for softmax or `steps` change
    scores or weights, and where forming them is faster.
    """
    steps = tuple(steps)
    if taps is not None and not taps.watched:
        taps = None
    if taps is not None:
        query, key, value = taps.queries(query), taps.keys(key), taps.values(value)
        if not taps.formed:
            mixed = attend(
                query, key, value, lowered=lowered, scale=scale, bias=bias, mass=mass, dropout=dropout, normaliser=normaliser,
                steps=steps, places=places, context=context,
            )  # fmt: skip
            return taps.mixed(mixed)
    if key.shape[1] < value.shape[1] == query.shape[1]:
        key = _each_head(key, query.shape[1])
    written = taps is not None or normaliser is not None or bool(steps) or value.shape[1] != key.shape[1]
    crowd = None if mass is None else mass.clamp(min=1e-6).log()[:, None, None, :]
    if isinstance(lowered, Sparse) and bias is None and crowd is None and not dropout and not written:
        kernels.tell(kernels.FLEX, "")
        return flex.flex(query, key, value, lowered.blocks, scale)
    if isinstance(lowered, Deferred):
        lowered = lowered.dense
    slower = not written and _written_out_is_faster(query, key)
    if kernels.heard and written:
        kernels.tell(kernels.WRITTEN, _why_written(taps, normaliser, steps))
    elif kernels.heard and slower:
        kernels.tell(kernels.WRITTEN, "faster here than the fused kernel at this length and precision")
    elif kernels.heard:
        kernels.tell(kernels.FUSED, _why_fused(lowered, bias, crowd))
    if written or slower:
        mixed = _explicit(
            query, key, value, lowered, scale, bias, crowd, dropout, taps, normaliser, steps, places, context or Context()
        )  # fmt: skip
        return mixed if taps is None else taps.mixed(mixed)
    grouped = key.shape[1] != query.shape[1]
    mask, causal = lowered.allowed, lowered.causal
    if crowd is not None:
        bias = crowd if bias is None else bias + crowd
    if bias is not None:
        mask, causal = lowered.explicit(query.shape[2], query.device), False
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    if grouped and query.shape[2] == 1 and not causal:
        return _folded(query, key, value, mask, dropout, scale)
    width = value.shape[-1]
    if _unfused(query, key, value):
        widest = max(width, key.shape[-1])
        query, key, value = (F.pad(x, (0, widest - x.shape[-1])) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=grouped
    )
    return mixed if mixed.shape[-1] == width else mixed[..., :width]


def _why_written(taps: Taps | None, normaliser: Normaliser | None, steps: tuple[ScoreStep, ...]) -> str:
    """Why the weights are formed."""
    if taps is not None:
        return "scores or weights are watched"
    if normaliser is not None:
        return f"{type(normaliser).__name__} stands in for softmax"
    if steps:
        return f"{', '.join(type(step).__name__ for step in steps)} changes scores or weights"
    return "values have other heads than keys"


def _why_fused(lowered: Lowered, bias: Tensor | None, crowd: Tensor | None) -> str:
    """Why no blocks are left out."""
    if bias is not None or crowd is not None:
        return "a bias on the scores: with a dense mask"
    if lowered.causal or lowered.allowed is None:
        return ""
    return "the mask leaves out too little, or this device has no kernel for its blocks: with a dense mask"


def _written_out_is_faster(query: Tensor, key: Tensor) -> bool:
    """Where the CPU's fused kernel is slower in half precision than the products written out.

    Its backward pass is 1.5 to 12 times slower; on processors whose bfloat16 has no tiles its forward pass is so 1.1 to 2
    times, and with one query 1.3 times at 128 keys to 9 times at 64 keys of 16 sequences.
    """
    if query.device.type != "cpu" or query.dtype == torch.float32 or query.dtype == torch.float64:
        return False
    pairs = query.shape[2] * key.shape[2]
    if torch.is_grad_enabled() and query.requires_grad:
        return pairs <= 512 * 512
    if query.shape[2] == 1:
        return query.shape[0] * query.shape[1] * key.shape[2] >= 1024 and _bfloat16_without_tiles()
    return pairs <= 1024 * 1024 and _bfloat16_without_tiles()


def _unfused(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Where the CPU would form all weights, since its fused kernel takes one width, and zeros beside the narrower cost less."""
    if query.device.type != "cpu" or key.shape[-1] == value.shape[-1] or torch.compiler.is_compiling():
        return False
    return query.shape[2] > 1 and query.shape[2] * key.shape[2] > 512 * 512


def _folded(
    query: Float[Tensor, "B H 1 K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B G M V"],
    mask: Float[Tensor, "#B #H 1 M"] | Bool[Tensor, "#B #H 1 M"] | None,
    dropout: float,
    scale: float,
) -> Float[Tensor, "B H 1 V"]:
    """One query of each head, those that share keys as queries of one head: keys and values are read once for all of them."""
    groups = key.shape[1]
    if mask is not None and mask.shape[1] > 1:
        mask = _together(mask, groups)
    mixed = F.scaled_dot_product_attention(
        _together(query, groups), key, value, attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return mixed.flatten(1, 2)[:, :, None]


@cache
def _bfloat16_without_tiles() -> bool:
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def _together(x: Shaped[Tensor, "#B H N k"], groups: int) -> Shaped[Tensor, "#B G RN k"]:
    """What each head has of its queries, heads of a group after each other as one."""
    return x.unflatten(1, (groups, -1)).flatten(2, 3)


def _each_head(key: Float[Tensor, "B G M K"], heads: int) -> Float[Tensor, "B H M K"]:
    """The keys of every head where several share them."""
    return key if key.shape[1] == heads else key.repeat_interleave(heads // key.shape[1], 1)


def _products(query: Tensor, key: Tensor, scale: float) -> Float[Tensor, "B H N M"]:
    """q k^T scale in one call; heads that share keys are one product."""
    q, k = _together(query, key.shape[1]).flatten(0, 1), key.flatten(0, 1)
    if k.dtype == torch.bfloat16:
        k = k.contiguous()  # oneDNN would copy columns of a cache turned over, which takes longer than as they lie
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=scale)
    return scores.view(*query.shape[:3], -1)


def _explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lowered: Lowered,
    scale: float,
    bias: Tensor | None,
    crowd: Tensor | None,
    dropout: float,
    taps: Taps | None,
    normaliser: Normaliser | None,
    steps: tuple[ScoreStep, ...],
    places: tuple[Tensor, Tensor] | None,
    context: Context,
) -> Tensor:
    scores = _products(query, key, scale)
    if bias is not None:
        scores = scores + bias
    allowed = lowered.explicit(query.shape[2], query.device)
    at = Scored(query, _each_head(key, query.shape[1]) if steps else key, allowed, context, places)
    for step in steps:
        scores = step.scores(scores, at)
    if crowd is not None:
        scores = scores + crowd
    if taps is not None:
        scores = taps.scores(scores)
    weights = softmax(scores, allowed) if normaliser is None else normaliser(scores, allowed)
    for step in steps:
        weights = step.weights(weights, at)
    if steps and allowed is not None:
        weights = weights.masked_fill(~allowed, 0)
    weights = weights.to(value.dtype)
    if taps is not None:
        weights = taps.weights(weights)
    return _mixed(random_zeros(weights, dropout) if dropout else weights, value)


def _mixed(weights: Float[Tensor, "B H N M"], value: Float[Tensor, "B P M V"]) -> Float[Tensor, "B H N V"]:
    """The values by their weights; heads that share values are one product."""
    together = _together(weights, value.shape[1]) @ value
    return together.unflatten(2, (-1, weights.shape[2])).flatten(1, 2)


def softmax(scores: Float[Tensor, "B H N M"], allowed: Tensor | None) -> Float[Tensor, "B H N M"]:
    """Softmax over the allowed keys; zeros where a query may see none."""
    if allowed is None:
        return scores.softmax(-1)
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1) * allowed


__all__ = ["Lowered", "Sparse", "Tap", "Taps", "attend", "lower", "lower_memory", "softmax"]
