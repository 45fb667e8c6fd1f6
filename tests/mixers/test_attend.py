"""Attention itself, where the shapes ask for another way than the plain one."""

from __future__ import annotations

import pytest
import torch

from everyformer.context import Context
from everyformer.masks import Causal, Full
from everyformer.mixers.attend import Lowered, attend, lower
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("biased", [None, 1, 4], ids=["no bias", "one bias", "a bias for each head"])
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_one_query_reads_shared_keys_once(key_heads, masked, biased, dtype) -> None:
    """A token that is generated gets what the equation says, whatever number of heads share their keys."""
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 4, 1, 8), (3, key_heads, 100, 8), (3, key_heads, 100, 8)
    query, key, value = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    allowed = torch.rand(3, 1, 1, 100, generator=generator) < 0.7 if masked else None
    bias = None if biased is None else torch.randn(1, biased, 1, 100, generator=generator)
    with torch.no_grad():
        answer = attend(query, key, value, lowered=Lowered(allowed=allowed), scale=0.5, bias=bias)
    assert answer.shape == (3, 4, 1, 8)

    q, k, v = query.double(), *(x.double().repeat_interleave(4 // key_heads, 1) for x in (key, value))
    scores = q @ k.mT * 0.5 + (0 if bias is None else bias.double())
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    near = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(answer.double(), scores.softmax(-1) @ v, atol=near, rtol=near)
