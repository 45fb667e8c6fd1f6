"""Our model and an independent one with the same weights: the same answers and the same gradients."""

from __future__ import annotations

import torch

from everyformer.interop.weights import tensors

TOLERANCE = 1e-5


def perturb(model, seed=0):
    """Move every parameter away from where it starts, so that no scale is 1 and no shift is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def agree(ours, theirs, pairs, answer, expected, real=None):
    """Compare answers where tokens are real, then the gradients of a random sum of them, tensor by tensor."""
    assert answer.shape == expected.shape
    real = torch.ones(answer.shape[:-1], dtype=torch.bool) if real is None else real
    answer, expected = answer[real], expected[real]
    assert expected.std() > 0.05
    assert (answer - expected).abs().max() <= TOLERANCE * max(1.0, expected.abs().max().item())
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    weights = weights / real.sum() ** 0.5
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    found = {name: tensor.grad for name, tensor in tensors(ours).items()}
    given = {name: tensor.grad for name, tensor in tensors(theirs).items()}
    assert set(found) == {pair.ours for pair in pairs}
    for pair in pairs:
        wanted = pair.read(given)
        size = wanted.abs().max().item()
        assert size > 1e-3, f"{pair.ours} has no gradient to compare"
        off = (found[pair.ours] - wanted).abs().max().item()
        assert off <= TOLERANCE * max(1.0, size), f"gradient of {pair.ours}: off by {off} of {size}"


def ragged(batch, length, *, left=False):
    """A mask of a batch of sequences of different lengths, the first of them whole."""
    lengths = torch.tensor([length - 3 * i for i in range(batch)])
    mask = torch.arange(length) < lengths[:, None]
    return mask.flip(1) if left else mask


def ids(vocabulary, batch, length, seed=0):
    """Random token ids; not 0, whose row Hugging Face leaves without gradient."""
    return torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))
