"""Targets written all at once, and what is least sure of them again."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.generation.chunks import best
from everyformer.generation.generate import evaluating
from everyformer.models import ParallelSeq2Seq


@torch.no_grad()
def mask_predict(
    model: ParallelSeq2Seq,
    inputs: Tensor,
    *,
    hidden: int,
    steps: int = 10,
    tries: int = 3,
    counts: Int[Tensor, "B L"] | None = None,
    **fields: Any,
) -> list[list[int]]:
    """The target of each source, in `steps` passes: first every token is hidden, then those of which the last pass was least
    sure, fewer each time (Ghazvininejad et al., Mask-Predict, 2019, section 3.1).

    The `tries` likeliest lengths are written beside each other, and that of the best mean log-probability stays (section 3.3);
    `counts` gives other lengths. `hidden` is the token that stands where one is hidden; `fields` is what else the source's
    embedding takes.
    """
    if steps < 1 or tries < 1:
        raise BadInput(f"a target is written in at least 1 step, and 1 length or more is tried; given {steps}, {tries}")
    with evaluating(model):
        context = model.prepare(inputs, Context(), **fields)
        if counts is None:
            likely = model.counts(context)[:, 1:]
            counts = 1 + likely.topk(min(tries, likely.shape[1])).indices
        rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts.shape[1])
        places = torch.arange(int(counts.max()), device=counts.device)
        real = places < counts.flatten()[:, None]
        target, sure = _written(model, context.rows(rows), real, hidden, steps)
        worth = sure.log().masked_fill(~real, 0).sum(1) / real.sum(1)
        chosen = rows[:: counts.shape[1]] * counts.shape[1] + worth.view(counts.shape).argmax(1)
    return [target[row][real[row]].tolist() for row in chosen.tolist()]


def _written(
    model: ParallelSeq2Seq, context: Context, real: Bool[Tensor, "B N"], hidden: int, steps: int
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
    """The tokens after all steps, and how probable each was when it was written."""
    target, sure = torch.full(real.shape, hidden, device=real.device), torch.zeros(real.shape, device=real.device)
    for step in range(steps):
        left = (real.sum(1, keepdim=True) * (steps - step)).div(steps, rounding_mode="floor")
        again = best(-sure, real, left)
        logits = model.decode(target.masked_fill(again, hidden), context.replace(lowered={}), mask=real).float()
        logits[..., hidden] = float("-inf")
        said = logits.softmax(-1).max(-1)
        target, sure = torch.where(again, said.indices, target), torch.where(again, said.values, sure)
    return target, sure
