"""Linear recurrences over a matrix state: the one core of linear attention, retention, state spaces and delta rules.

S_t = diag(e^{d_t}) S_{t-1} + k_t u_t^T and o_t = S_t^T q_t, where u_t = v_t, or, for a delta rule of strength b_t,
u_t = b_t (v_t - (diag(e^{d_t}) S_{t-1})^T k_t): what the state already answers to k_t is taken out first.
Computed a chunk at a time, within a chunk as attention is; a chunk of one token is the recurrence itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.tokens import Tokens

CHUNK = 64
"""Tokens worked on at once under no decay or one number a token."""
CHUNK_OF_VECTORS = 16
"""The same under a decay for each channel, which takes a matrix of chunk x chunk for each of them."""


def scan(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B H N K"],
    value: Float[Tensor, "B H N V"],
    state: Float[Tensor, "B H K V"] | None = None,
    *,
    decay: Float[Tensor, "#B H N #K"] | None = None,
    strength: Float[Tensor, "B H N 1"] | None = None,
    chunk: int | None = None,
) -> tuple[Float[Tensor, "B H N V"], Float[Tensor, "B H K V"]]:
    """What each token reads from the tokens up to itself, and the state after the last; `decay` is a logarithm, at most 0.

    At least in float32. Differences of summed decays alone are exponentiated, so nothing overflows.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    given = [None if x is None else x.to(dtype) for x in (query, key, value, decay, strength)]
    if state is None:
        state = query.new_zeros(*key.shape[:2], key.shape[-1], value.shape[-1], dtype=dtype)
    if chunk is None:
        chunk = CHUNK_OF_VECTORS if decay is not None and decay.shape[-1] > 1 else CHUNK
    count = -(-query.shape[2] // chunk)
    found = []
    for q, k, v, d, b in zip(*((None,) * count if x is None else x.split(chunk, 2) for x in given), strict=True):
        out, state = _chunk(q, k, v, state, d, b)
        found.append(out)
    return torch.cat(found, 2).to(query.dtype), state


def _chunk(
    query: Tensor, key: Tensor, value: Tensor, state: Tensor, decay: Tensor | None, strength: Tensor | None
) -> tuple[Tensor, Tensor]:
    since = None if decay is None else decay.cumsum(2)
    if strength is not None:
        seen = _scores(key, key, since) * strength
        value = (value - _decayed(key, since) @ state) * strength
        value = torch.linalg.solve_triangular(seen.tril(-1), value, upper=False, unitriangular=True)
    out = _decayed(query, since) @ state + _scores(query, key, since) @ value
    if since is None:
        return out, state + key.mT @ value
    last = since[:, :, -1:]
    return out, last.mT.exp() * state + (key * (last - since).exp()).mT @ value


def _decayed(x: Tensor, since: Tensor | None) -> Tensor:
    return x if since is None else x * since.exp()


def _scores(query: Tensor, key: Tensor, since: Tensor | None) -> Tensor:
    """sum_c q_ic k_jc e^{since_ic - since_jc} for j <= i, else 0."""
    if since is None:
        return (query @ key.mT).tril()
    gap = since[:, :, :, None] - since[:, :, None]
    past = torch.ones(gap.shape[2:4], dtype=torch.bool, device=gap.device).tril()
    lost = gap.masked_fill(~past[..., None], float("-inf")).exp()
    if since.shape[-1] == 1:
        return query @ key.mT * lost[..., 0]
    return torch.einsum("bhic,bhjc,bhijc->bhij", query, key, lost)


def gather(
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B H N K"],
    value: Float[Tensor, "B H N V"],
    state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B H N V"], Float[Tensor, "B H K V"]]:
    """What each token reads from all tokens, without decay, and the state that holds them."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    added = key.to(dtype).mT @ value.to(dtype)
    state = added if state is None else state + added
    return (query.to(dtype) @ state).to(query.dtype), state


def remember(
    owner: nn.Module,
    query: Float[Tensor, "B H N K"],
    key: Float[Tensor, "B H N K"],
    value: Float[Tensor, "B H N V"],
    tokens: Tokens,
    context: Context,
    *,
    decay: Float[Tensor, "#B H #N #K"] | None = None,
    strength: Float[Tensor, "B H N 1"] | None = None,
) -> Float[Tensor, "B H N V"]:
    """`scan` from the state that the cache holds for `owner`, which is then exchanged; padding leaves it as it is."""
    if decay is not None:
        decay = decay.expand(-1, -1, tokens.count, -1)
    if tokens.mask is not None:
        real = tokens.mask[:, None, :, None]
        key = key * real
        decay = None if decay is None else decay * real
    out, state = scan(query, key, value, recall(owner, context, "state"), decay=decay, strength=strength)
    keep(owner, context, state=state)
    return out


def recall(owner: nn.Module, context: Context, name: str) -> Tensor | None:
    """What the cache holds for a module under a name; None where nothing was kept yet, or without a cache."""
    return None if context.cache is None else context.cache.states.get(owner, {}).get(name)


def keep(owner: nn.Module, context: Context, **states: Tensor) -> None:
    """Exchange what the cache holds for a module, batch first; nothing without a cache."""
    if context.cache is not None:
        context.cache.states[owner] = {**context.cache.states.get(owner, {}), **states}
