"""Attention itself, where the shapes ask for another way than the plain one."""

from __future__ import annotations

import pytest
import torch

from everyformer.context import Context
from everyformer.masks import Causal, Full
from everyformer.mixers.attend import attend, lower
from everyformer.tokens import Tokens

LONG = 600


@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("mask", [Full(), Causal()], ids=["full", "causal"])
@pytest.mark.parametrize("widths", [(6, 4), (4, 6)], ids=["wide keys", "wide values"])
def test_values_narrower_or_wider_than_keys_never_form_the_weights(widths, mask, key_heads) -> None:
    """Answers and gradients are those of the equation, and nothing of the length squared is kept."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 2, LONG, widths[0]), (1, key_heads, LONG, widths[0]), (1, key_heads, LONG, widths[1]))
    query, key, value = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    lowered = lower(mask, Tokens(torch.zeros(1, LONG, 1)), Context())
    sizes: list[int] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        answer = attend(query, key, value, lowered=lowered, scale=0.5)
    assert max(sizes) < LONG**2

    allowed = torch.ones(LONG, LONG).tril().bool() if isinstance(mask, Causal) else torch.ones(LONG, LONG).bool()
    scores = (query @ key.repeat_interleave(2 // key_heads, 1).mT * 0.5).masked_fill(~allowed, float("-inf"))
    expected = scores.softmax(-1) @ value.repeat_interleave(2 // key_heads, 1)
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=1e-5)
    by = torch.randn(answer.shape, generator=generator)
    ours, theirs = (torch.autograd.grad((x * by).sum(), (query, key, value)) for x in (answer, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
