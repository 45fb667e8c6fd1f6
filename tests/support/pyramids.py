"""A pyramid of ours beside the same one of another library: answers, features of every stage, gradients, the way back."""

from __future__ import annotations

import pytest
import torch

from everyformer.designs import design_of
from everyformer.interop import from_timm, from_transformers, live
from everyformer.interop.forms import Joined, Leading
from everyformer.interop.timm import timm_family
from everyformer.interop.weights import resolve, tensors, write
from support.agreement import close, same_answers


def timm_model(name, **options):
    """A timm model, where timm can be imported."""
    timm = pytest.importorskip("timm", exc_type=ImportError)
    return timm.create_model(name, pretrained=False, **options)


def table_of(ours, theirs):
    """The table of pairs between a model of ours and a live one of transformers or of timm."""
    if hasattr(theirs, "config"):
        return live.pairs(ours, theirs)
    family = timm_family(theirs)
    return family.family.pairs(design_of(ours), family.name)


def named(theirs, values):
    """Values under the names that tables know."""
    return live.as_saved(theirs, values) if hasattr(theirs, "config") else values


def agree(theirs, pictures, nothing=()):
    """The same answers, and the same gradients of a random sum of them; those of `nothing` may be zero. Gives our model."""
    ours = from_transformers(theirs) if hasattr(theirs, "config") else from_timm(theirs)
    expected = theirs(pictures)
    expected = getattr(expected, "logits", expected)
    answer = ours(pictures)
    same_answers(answer, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    given = named(theirs, {name: each.grad for name, each in tensors(theirs).items() if each.grad is not None})
    found = tensors(ours)
    for name, (pair, *_) in resolve(ours, table_of(ours, theirs)).items():
        if isinstance(found[name], torch.nn.Parameter):
            form = Joined() if isinstance(pair.form, Leading) else pair.form
            wanted = form.read([given[each] for each in pair.theirs[: 1 if form != pair.form else None]])
            wanted = wanted.reshape(found[name].shape)
            assert wanted.abs().max() > 1e-4 or name.endswith(nothing), f"{name} has no gradient to compare"
            close(found[name].grad, wanted, f"gradient of {name}")
    return ours


def goes_back(ours, theirs):
    """Our model of theirs, written back, gives the same tensors."""
    found = write(ours, table_of(ours, theirs))
    wanted = named(theirs, tensors(theirs))
    assert found.keys() == wanted.keys()
    for name, each in wanted.items():
        assert torch.equal(found[name], each), name


def same_features(ours, expected, pictures):
    """The features of every stage, theirs as (B, C, rows, columns)."""
    with torch.no_grad():
        found = list(ours.stages(pictures).values())
    assert len(found) == len(expected)
    for tokens, wanted in zip(found, expected, strict=True):
        assert tokens.grid == tuple(wanted.shape[2:])
        close(tokens.values[:, tokens.prefix :].mT.unflatten(2, tokens.grid), wanted, "features")
