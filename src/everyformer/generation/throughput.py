"""How fast text is written in several ways, for one reader and for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Int
from torch import Tensor

from everyformer.costs import processor_seconds
from everyformer.errors import BadInput
from everyformer.generation.generate import generate
from everyformer.models import Model
from everyformer.registry import method


@method(
    "inference-optimization-accelerators",
    title="Inference Optimization of Foundation Models on AI Accelerators",
    authors="Park et al.",
    year=2024,
    arxiv="2407.09111",
    idea="Writing one text is bound by memory and writing many by arithmetic: what makes the one faster need not the other.",
)
def paces(
    models: Mapping[str, tuple[Model, Mapping[str, Any]]],
    prompts: Int[Tensor, "B N"],
    *,
    batches: Sequence[int] = (1, 16),
    tokens: int = 32,
    repeats: int = 3,
) -> dict[str, dict[int, float]]:
    """New tokens a processor second of each model with its options of `generate`, for so many of the prompts at once.

    All are timed in turns, and the best of `repeats` counts.
    """
    if tokens < 1 or not batches or min(batches) < 1 or max(batches) > len(prompts):
        raise BadInput(
            f"1 token or more is written after 1 to {len(prompts)} prompts; given {tokens} tokens and batches {batches}"
        )
    found: dict[str, dict[int, float]] = {name: {} for name in models}
    for batch in batches:
        calls = [
            partial(generate, model, prompts[:batch], eos=None, pad=0, max_tokens=tokens, **options)
            for model, options in models.values()
        ]
        for name, seconds in zip(models, processor_seconds(*calls, repeats=repeats), strict=True):
            found[name][batch] = batch * tokens / seconds
    return found
