"""`crossvit` against timm's, and what its branches may tell each other."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_timm
from support.agreement import equal, perturb
from support.systems import model_of, tiny


def test_equals_timm():
    timm = pytest.importorskip("timm", exc_type=ImportError)
    theirs = timm.create_model(
        "crossvit_9_240", pretrained=False, img_size=48, img_scale=(1.0, 2 / 3), patch_size=(12, 16), num_classes=5,
        embed_dim=(16, 32), depth=((1, 2, 0),) * 2, num_heads=(4, 4),
    )  # fmt: skip
    theirs = perturb(theirs)
    ours = from_timm(theirs)
    pictures = torch.randn(2, 3, 48, 48)
    equal(ours, theirs, ours(pictures), theirs(pictures))


@pytest.mark.parametrize(
    ("size", "published"),
    [("tiny", 7.0e6), ("small", 26.7e6), ("base", 104.7e6), ("9", 8.6e6), ("15", 27.4e6), ("18", 43.3e6)],
)
def test_sizes_are_the_published_ones(size, published):
    """Table 1."""
    assert parameters(on_meta(ef.design("crossvit", size))) == pytest.approx(published, rel=0.01)


def test_a_branch_hears_of_the_other_through_its_class_token_alone():
    model = model_of(tiny("crossvit"))
    own = model.embeddings[0](torch.randn(1, 3, 16, 16)).values.detach()
    other = model.embeddings[1](torch.randn(1, 3, 8, 8)).values.detach().requires_grad_()
    tokens = [ef.Tokens(own, prefix=1), ef.Tokens(other, prefix=1)]
    after = model._exchange(0, 0, *tokens, ef.Context()).values
    assert torch.equal(after[:, 1:], own[:, 1:])
    (told,) = torch.autograd.grad(after[:, 0].square().sum(), other)
    assert told[:, 0].abs().max() == 0
    assert (told[:, 1:].abs().amax(-1) > 0).all()
