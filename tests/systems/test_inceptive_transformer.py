"""`inceptive-transformer`: its two layers put together by hand of torch's, and what padding and neighbours are to them."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import close, tokens

SMALL = {
    "vocabulary": 20,
    "classes": 3,
    "length": 16,
    "width": 32,
    "hidden": 48,
    "depth": 2,
    "heads": 4,
    "dropout": 0.0,
}


def test_the_two_layers_are_torchs():
    model = perturb(ef.create("inceptive-transformer", seed=0, **SMALL))
    convolved, weighed = model.backbone.blocks[2:]
    mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    given = Tokens(tokens().values, mask=mask)
    branches = []
    for kernel, ours in zip((1, 3, 5, 7), convolved.mixer.convs, strict=True):
        branch = nn.Conv1d(32, 8, kernel, padding="same")
        branch.load_state_dict(ours.state_dict())
        branches.append(branch((given.values * mask[..., None]).mT).relu())
    enriched = convolved.residual[0].norm(given.values + torch.cat(branches, 1).mT)
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    attention.in_proj_weight.data.copy_(weighed.mixer.qkv.weight)
    attention.in_proj_bias.data.copy_(weighed.mixer.qkv.bias)
    attention.out_proj.load_state_dict(weighed.mixer.output.state_dict())
    heard = attention(enriched, enriched, enriched, key_padding_mask=~mask)[0]
    wanted = weighed.residual[0].norm(enriched + heard)
    found = weighed(convolved(given, Context()), Context())
    close(found.values[mask], wanted[mask])
    pooled = torch.stack([wanted[row, : int(mask[row].sum())].mean(0) for row in range(3)])
    close(model.head(found), model.head.classify(pooled))


def test_padding_changes_no_answer():
    model = perturb(ef.create("inceptive-transformer", seed=0, **SMALL))
    inputs = ids(20, 2, 6)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[:, 6:] = False
    padded = torch.cat((inputs, torch.full((2, 4), 7)), 1)
    close(model(padded, mask=mask), model(inputs))


@pytest.mark.parametrize("kernels", [(1,), (1, 3), (1, 3, 5, 7)])
def test_a_token_hears_its_neighbours_as_far_as_the_widest_kernel(kernels):
    part = perturb(ef.mixers.Inception(32, kernels=kernels, activation="linear"))
    values = torch.randn(1, 12, 32, requires_grad=True)
    (found,) = torch.autograd.grad(part(Tokens(values))[0, 5].sum(), values)
    heard = found.abs().sum(-1)[0] > 0
    assert torch.equal(heard, (torch.arange(12) - 5).abs() <= kernels[-1] // 2)


@pytest.mark.parametrize("kernels", [(1, 3, 5), (1, 2)])
def test_what_cannot_be_is_refused(kernels):
    with pytest.raises(ValueError, match="odd widths, all alike"):
        ef.mixers.Inception(32, kernels=kernels)
