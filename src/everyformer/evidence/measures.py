"""What experiments on mixers measure without training: time and memory of a cache, and a task of recall."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Cache, Context
from everyformer.costs import processor_seconds
from everyformer.evidence.descent import descend, warmed


@torch.no_grad()
def next_token(model: nn.Module, context: int, steps: int = 8) -> dict[str, float]:
    """Processor milliseconds for one more token after `context` ones, and the numbers that the cache then holds."""
    shared = Context(cache=Cache())
    ids = torch.zeros(1, context, dtype=torch.long)
    for piece in ids.split(512, 1):
        model.decode(piece, shared, last=True)  # type: ignore[operator]

    def some() -> None:
        for _ in range(steps):
            model.decode(ids[:, :1], shared, last=True)  # type: ignore[operator]

    seconds = processor_seconds(some)[0] / steps
    assert shared.cache is not None
    owners = {*shared.cache.columns, *shared.cache.states}
    held = sum(value.numel() for owner in owners for value in shared.cache.held(owner).values())
    return {"milliseconds": 1000 * seconds, "numbers": held}


def recall(batch: int, pairs: int, length: int, generator: torch.Generator, symbols: int = 32) -> tuple[Tensor, Tensor]:
    """Associative recall (Arora et al., Zoology, 2023): keys with their values, then keys again; labels are the values.

    Keys are symbols below `symbols`, values those above; -100 where nothing is asked.
    """
    keys = torch.rand(batch, symbols, generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(symbols, 2 * symbols, (batch, pairs), generator=generator)
    shown = torch.stack((keys, values), -1).flatten(1)
    asked = torch.randint(pairs, (batch, length - 2 * pairs), generator=generator)
    inputs = torch.cat((shown, keys.gather(1, asked)), 1)
    return inputs, torch.cat((torch.full_like(shown, -100), values.gather(1, asked)), 1)


def recalled(model: nn.Module, pairs: int, steps: int, batch: int = 32, lr: float = 3e-3) -> float:
    """The share of fresh questions answered after training on some batches of recall."""
    generator = torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        inputs, labels = recall(batch, pairs, 3 * pairs, generator)
        return F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten(), ignore_index=-100)

    descend(model, loss, steps, lr=lr, rate=warmed(50))
    inputs, labels = recall(256, pairs, 3 * pairs, generator)
    with torch.no_grad():
        asked = labels != -100
        return (model(inputs)[asked].argmax(-1) == labels[asked]).float().mean().item()
