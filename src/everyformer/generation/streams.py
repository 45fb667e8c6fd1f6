"""A text read some tokens at a time, with what a cache leaves of those before: what that costs, and what the cache holds."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.cache import Cache, Policy
from everyformer.columns import Storage
from everyformer.context import Context


@torch.no_grad()
def read_stream(
    model: Any,
    ids: Int[Tensor, "B N"],
    policy: Policy | None = None,
    *,
    segment: int = 1,
    skip: int = 0,
    storage: Storage | None = None,
) -> tuple[float, int]:
    """Nats a token past the first `skip`, given `segment` tokens at a time, and the bytes that the cache holds then."""
    cache = Cache(policy, storage)
    context, total, count = Context(cache=cache), 0.0, 0
    for start in range(0, ids.shape[1] - 1, segment):
        inputs = ids[:, start : min(start + segment, ids.shape[1] - 1)]
        labels = ids[:, start + 1 : start + 1 + inputs.shape[1]]
        logits = model.eval().decode(inputs, context)
        if start >= skip:
            total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
            count += labels.numel()
    return total / count, cache.bytes


def loss_of_stream(model: Any, ids: Int[Tensor, "B N"], policy: Policy | None = None, **options: Any) -> float:
    """The nats alone; the options are those of `read_stream`."""
    return read_stream(model, ids, policy, **options)[0]
