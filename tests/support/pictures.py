"""Our model and an independent one with the same weights: the same answers and the same gradients."""

from __future__ import annotations

import torch

from everyformer.interop.vit import split_positions
from everyformer.interop.weights import tensors

TOLERANCE = 1e-5


def perturb(model, seed=0):
    """Move every parameter away from where it starts, so that no scale is 1 and no shift or token is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def same_answers(answer, expected, tolerance=TOLERANCE):
    """Compare answers that vary enough to tell models apart."""
    assert answer.shape == expected.shape
    assert expected.std() > 0.05
    assert (answer - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


def agree(ours, theirs, pairs, answer, expected, leading, positions):
    """Compare answers, then the gradients of a random sum of them, tensor by tensor.

    The gradient of a leading token is that of its own place among their positions.
    """
    same_answers(answer, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    found = {name: tensor.grad for name, tensor in tensors(ours).items()}
    given = {name: tensor.grad for name, tensor in tensors(theirs).items()}
    tokens = torch.cat([given[name][0] for name in leading])
    given = split_positions(given, leading, positions)
    assert torch.equal(given["first"], 2 * tokens)
    given["first"] = tokens
    assert set(found) == {pair.ours for pair in pairs}
    for pair in pairs:
        wanted = pair.read(given)
        size = wanted.abs().max().item()
        assert size > 1e-3, f"{pair.ours} has no gradient to compare"
        off = (found[pair.ours] - wanted).abs().max().item()
        assert off <= TOLERANCE * max(1.0, size), f"gradient of {pair.ours}: off by {off} of {size}"
