"""Text for our model and an independent one with the same weights."""

from __future__ import annotations

import torch

from support.agreement import agree

__all__ = ["agree", "ids", "perturb", "ragged"]


def perturb(model, seed=0):
    """Move every parameter away from where it starts, so that no scale is 1 and no shift is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def ragged(batch, length, *, left=False):
    """A mask of a batch of sequences of different lengths, the first of them whole."""
    lengths = torch.tensor([length - 3 * i for i in range(batch)])
    mask = torch.arange(length) < lengths[:, None]
    return mask.flip(1) if left else mask


def ids(vocabulary, batch, length, seed=0):
    """Random token ids; not 0, whose row Hugging Face leaves without gradient."""
    return torch.randint(1, vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))
