"""What the cache holds of a text, made better by the text that follows it (Yoshida and Gimpel, 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import cacheable
from everyformer.generation.generate import evaluating
from everyformer.models import Model
from everyformer.registry import method

TINY = 1e-8


@dataclass
class Reading:
    """A text as it was read: what each of its tokens cost, and what is held of it."""

    losses: Float[Tensor, "B N"]
    """Nats of every token but the first, told before it changed anything."""
    context: Context
    """With the cache, for `model.decode` to go on with."""


@method(
    "pretrained-transformer-methods-thesis",
    title="Making the Most of your Model: Methods for Finetuning and Applying Pretrained Transformers",
    authors="Yoshida",
    year=2024,
    arxiv="2408.16241",
    idea="Four additions to a trained model: a vector of the windows before, targets filled in at once, gradient steps on the "
    "keys and values held while a text is read, and beam search for texts with a property.",
)
def read_optimised(model: Model, ids: Int[Tensor, "B M"], *, chunk: int = 16, lr: float = 1e-3) -> Reading:
    """Read a text piece by piece; the loss of each moves what the cache holds of the pieces before, by Adam's first step.

    No weight changes, and no token's loss knows of a later one. `lr` of 0 is plain reading. The other three of the thesis are
    `models.window_recurrence`, `models.parallel_seq2seq` with `mask_predict`, and `Conditional`.
    """
    if chunk < 1 or lr < 0 or ids.shape[1] < 2:
        raise BadInput(
            f"pieces have at least 1 token, steps are of at least 0, a text has at least 2 tokens; given chunk={chunk}, "
            f"lr={lr} and {ids.shape[1]} tokens"
        )
    if not cacheable(model.backbone):
        raise DoesNotFit("hidden states are kept in a cache, and a mixer here works with none", "backbone")
    cache, losses = Cache(), []
    context = Context(cache=cache)
    with evaluating(model), torch.enable_grad():
        for start in range(0, ids.shape[1] - 1, chunk):
            labels = ids[:, start + 1 : start + 1 + chunk]
            before = _leaves(cache)
            logits = model.decode(ids[:, start : start + labels.shape[1]], context)
            each = F.cross_entropy(logits.mT.float(), labels, reduction="none")
            losses.append(each.detach())
            moved = _moved(each.sum(), before, lr)
            _settle(cache, moved)
    return Reading(torch.cat(losses, 1), context)


def _leaves(cache: Cache) -> dict[tuple[Any, str], Tensor]:
    """The keys and values held, made what a gradient can be taken by."""
    found = {}
    for owner, kept in cache.columns.items():
        for name, held in kept.items():
            if held.whole().is_floating_point():
                found[owner, name] = held.whole().detach().requires_grad_()
                cache.exchange(owner, **{name: found[owner, name]})
    return found


def _moved(loss: Tensor, before: dict[tuple[Any, str], Tensor], lr: float) -> dict[tuple[Any, str], Tensor]:
    """What was held, after a step down the loss."""
    if not before:
        return {}
    slopes = torch.autograd.grad(loss, [*before.values()], allow_unused=True)
    return {
        at: held.detach() if slope is None else held.detach() - lr * slope / (slope.abs() + TINY)
        for (at, held), slope in zip(before.items(), slopes)
    }


def _settle(cache: Cache, moved: dict[tuple[Any, str], Tensor]) -> None:
    """Hold what was moved, and the new as it came, both without their past."""
    for owner, kept in cache.columns.items():
        for name, held in kept.items():
            whole = held.whole().detach()
            first = moved.get((owner, name))
            cache.exchange(
                owner, **{name: whole if first is None else torch.cat((first, whole[:, :, first.shape[2] :]), 2)}
            )
