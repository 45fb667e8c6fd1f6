"""`vit` against Hugging Face's ViT and timm's, and at sizes of pictures that it was not built for."""

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_timm, from_transformers
from support.agreement import equal, perturb, same_answers


def theirs_with(**changes):
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    return perturb(
        ViTForImageClassification(
            ViTConfig(**{**sizes, "image_size": 24, "patch_size": 8, "num_labels": 7, "num_channels": 2, **changes})
        )
    )


@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu_new", "qkv_bias": False}])
def test_equals_hugging_face(changes):
    theirs = theirs_with(**changes)
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    equal(ours, theirs, ours(pictures), theirs(pictures).logits)


def timm_vit(**changes):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 5}
    return perturb(timm.create_model("vit_tiny_patch16_224", pretrained=False, **{**sizes, **changes}))


def test_equals_timm():
    theirs = timm_vit(depth=3)
    ours = from_timm(theirs)
    pictures = torch.randn(2, 3, 32, 32)
    equal(ours, theirs, ours(pictures), theirs(pictures))


@pytest.mark.parametrize("size", [(32, 32), (70, 64), (224, 160)])
def test_other_sizes_equal_timm_with_resampled_positions(size):
    """timm pads and resamples positions where it is told to; we do wherever it is needed."""
    theirs = timm_vit(depth=2, img_size=64, patch_size=16, dynamic_img_size=True, dynamic_img_pad=True)
    ours = from_timm(theirs)
    pictures = torch.randn(2, 3, *size)
    same_answers(ours(pictures), theirs(pictures))


def test_timm_models_that_pool_otherwise_are_refused():
    with pytest.raises(ef.DoesNotFit, match="global_pool='avg'"):
        from_timm(timm_vit(depth=1, global_pool="avg"))


def test_an_oblong_checkpoint_is_refused():
    with pytest.raises(ef.BadInput, match="expected a square image_size; given 16x24"):
        from_transformers(theirs_with(image_size=(16, 24)))


def test_a_checkpoint_with_a_tensor_too_many_or_too_few_is_refused():
    theirs = theirs_with()
    theirs.vit.layernorm.more = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(ef.BadInput, match=r"no place for.*more"):
        from_transformers(theirs)
    theirs = theirs_with()
    theirs.classifier.bias = None
    with pytest.raises(ef.BadInput, match=r"lacks classifier\.bias"):
        from_transformers(theirs)


def test_base_has_the_published_size():
    """86,567,656 in the authors' code, where the class token has a position of its own; here the two are one."""
    assert parameters(on_meta(ef.design("vit", "base"))) == 86_567_656 - 768


def test_positions_at_their_own_size_are_not_touched():
    model = ef.create("vit", "tiny", image=32, patch=8, depth=1, seed=0)
    table = model.embedding.positions.table
    tokens = model.embedding(torch.zeros(1, 3, 32, 32))
    bias = model.embedding.project.bias
    torch.testing.assert_close(tokens.values[0, 1:], table + bias, rtol=0, atol=0)


def test_patch_order_counts_only_through_positions():
    pictures = torch.randn(1, 3, 32, 32)
    cells = pictures.unfold(2, 8, 8).unfold(3, 8, 8)
    mirrored = cells.flip(2, 3).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 32, 32)
    with_positions = ef.design("vit", "tiny", image=32, patch=8, depth=2, classes=5)
    without = with_positions.remove("embedding.positions")
    model, plain = (perturb(d.build(seed=0)) for d in (with_positions, without))
    assert (plain(pictures) - plain(mirrored)).abs().max() < 1e-4
    assert (model(pictures) - model(mirrored)).abs().max() > 1e-2


def test_patches_are_a_linear_map_of_unfolded_pixels():
    patches = ef.spec(ef.embeddings.Patches, patch=4, channels=2, image=12).build(10)
    pictures = torch.randn(3, 2, 12, 8)
    columns = torch.nn.functional.unfold(pictures, 4, stride=4).mT
    expected = columns @ patches.project.weight.flatten(1).T + patches.project.bias
    tokens = patches(pictures)
    assert tokens.grid == (3, 2)
    torch.testing.assert_close(tokens.values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)])
def test_what_is_no_batch_of_pictures_is_refused(shape):
    model = ef.create("vit", "tiny", image=32, patch=8, depth=1)
    with pytest.raises(ef.BadInput, match=r"expected pictures \(B, 3, height, width\); given"):
        model(torch.zeros(shape))
