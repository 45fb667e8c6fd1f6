"""A pyramid of ours beside the same one of another library: answers, features of every stage, gradients, the way back."""

from __future__ import annotations

import copy

import pytest
import torch

from everyformer.interop.forms import Joined, Leading
from everyformer.interop.weights import resolve, tensors
from support.agreement import close, perturb, same_answers


def timm_model(name, **options):
    """A timm model, where timm can be imported."""
    timm = pytest.importorskip("timm", exc_type=ImportError)
    return timm.create_model(name, pretrained=False, **options)


def agree(way, theirs, pictures, nothing=()):
    """The same answers, and the same gradients of a random sum of them; those of `nothing` may be zero. Gives our model."""
    ours = way.read(theirs)
    expected = theirs(pictures)
    expected = getattr(expected, "logits", expected)
    answer = ours(pictures)
    same_answers(answer, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    given = {name: tensor.grad for name, tensor in tensors(theirs).items()}
    found = tensors(ours)
    for name, (pair, *_) in resolve(ours, way.pairs(theirs)).items():
        if isinstance(found[name], torch.nn.Parameter):
            form = Joined() if isinstance(pair.form, Leading) else pair.form
            wanted = form.read([given[each] for each in pair.theirs[: 1 if form != pair.form else None]])
            wanted = wanted.reshape(found[name].shape)
            assert wanted.abs().max() > 1e-4 or name.endswith(nothing), f"{name} has no gradient to compare"
            close(found[name].grad, wanted, f"gradient of {name}")
    return ours


def goes_back(way, theirs):
    """Our model of theirs, poured into another one of theirs, gives the same tensors."""
    into = perturb(copy.deepcopy(theirs), seed=9)
    found = way.write(way.read(theirs), into).state_dict()
    for name, wanted in theirs.state_dict().items():
        assert torch.equal(found[name], wanted), name


def same_features(ours, expected, pictures):
    """The features of every stage, theirs as (B, C, rows, columns)."""
    with torch.no_grad():
        found = list(ours.stages(pictures).values())
    assert len(found) == len(expected)
    for tokens, wanted in zip(found, expected, strict=True):
        assert tokens.grid == tuple(wanted.shape[2:])
        close(tokens.values[:, tokens.prefix :].mT.unflatten(2, tokens.grid), wanted, "features")
