"""`cait` against timm's."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.designs import design_of
from everyformer.interop import cait, from_timm
from everyformer.interop.weights import tensors
from support.agreement import perturb, same_answers, same_gradients
from support.systems import model_of, tiny


def timm_cait(**changes):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 5, "embed_dim": 32, "depth": 2, "num_heads": 4}
    return timm.create_model("cait_xxs24_224", pretrained=False, **{**sizes, **changes})


def test_equals_timm():
    theirs = perturb(timm_cait(), std=0.2)
    ours = from_timm(theirs)
    pictures = torch.randn(2, 3, 32, 32)
    answer, expected = ours(pictures), theirs(pictures)
    same_answers(answer, expected)
    weights = torch.randn(expected.shape)
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    unseen = [f"backbone.blocks.0.body.blocks.{i}.mixer.steps.0.mix.bias" for i in range(2)]
    given = {name: tensor.grad for name, tensor in tensors(theirs).items()}
    same_gradients(ours, cait.table(design_of(ours)), given, nothing=unseen)


@pytest.mark.parametrize(("size", "published"), [("xxs24", 11_956_264), ("s24", 46_918_120), ("xs24", 26_671_168)])
def test_sizes_are_the_published_ones(size, published):
    """12.0M, 46.9M, 26.6M (table 3; CaiT's XS24 is trained at 224, where its positions are fewer)."""
    assert parameters(on_meta(ef.design("cait", size))) == pytest.approx(published, rel=0.01)


def test_patches_do_not_see_the_class_token():
    model = model_of(tiny("cait"))
    pictures = torch.randn(1, 3, 16, 16)
    before = model.features(pictures).values
    with torch.no_grad():
        model.embedding.first.add_(torch.randn(32))
    after = model.features(pictures).values
    torch.testing.assert_close(after[:, 1:], before[:, 1:], rtol=0, atol=0)
    assert (after[:, 0] - before[:, 0]).abs().max() > 1e-3


def test_a_scale_of_zero_leaves_the_embedding():
    model = model_of(tiny("cait"))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ef.norms.LayerScale):
                module.factor.zero_()
    pictures = torch.randn(1, 3, 16, 16)
    expected = model.backbone.norm(model.embedding(pictures).values)
    torch.testing.assert_close(model.features(pictures).values, expected, rtol=0, atol=0)
