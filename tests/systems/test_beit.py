"""`beit` against Hugging Face's BEiT, classifying and naming visual words."""

import pytest
import torch
from transformers import BeitConfig, BeitForImageClassification, BeitForMaskedImageModeling

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from support.agreement import equal, perturb, same_answers

SIZES = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 24,
    "patch_size": 8, "num_channels": 2, "num_labels": 7, "vocab_size": 11, "drop_path_rate": 0.0,
}  # fmt: skip
WORDS = {"use_mask_token": True, "use_shared_relative_position_bias": True}
CLASSES = {"use_relative_position_bias": True}


def compare(theirs, given, fields):
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    answer, expected = ours(pictures, **fields), theirs(pictures, **given).logits
    equal(ours, theirs, answer, expected)
    back = to_transformers(ours, type(theirs).__name__)
    same_answers(back(pictures, **given).logits, answer)


def test_equals_hugging_face_both_ways():
    compare(perturb(BeitForImageClassification(BeitConfig(**SIZES, **CLASSES))), {}, {})


def test_equals_hugging_face_where_patches_are_hidden():
    """The first token there is the class token, which has no visual word."""
    theirs = perturb(BeitForMaskedImageModeling(BeitConfig(**SIZES, **WORDS)))
    hidden = torch.rand(3, 9) < 0.4
    compare(theirs, {"bool_masked_pos": hidden}, {"hidden": hidden})


@pytest.mark.parametrize(("size", "published"), [("base", 86_530_984), ("large", 304_430_568)])
def test_sizes_are_the_published_ones(size, published):
    """Of timm's copies of the authors' models; theirs lack the bias of keys."""
    design = ef.design("beit", size)
    depth, width = len(design.get("backbone.blocks")), design.spec.get("width")
    assert parameters(on_meta(design)) == published + depth * width


def test_a_checkpoint_with_positions_of_another_kind_is_refused():
    with pytest.raises(ef.DoesNotFit, match="use_absolute_position_embeddings=True"):
        from_transformers(
            BeitForImageClassification(BeitConfig(**SIZES, **CLASSES, use_absolute_position_embeddings=True))
        )


def test_hidden_patches_are_not_seen():
    model = ef.create("beit", visual_words=6, image=16, patch=4, width=32, depth=1, heads=2, seed=0).eval()
    pictures, hidden = torch.randn(1, 3, 16, 16), torch.zeros(1, 16, dtype=torch.bool)
    hidden[0, 5] = True
    changed = pictures.clone()
    changed[:, :, 4:8, 4:8] += 1
    torch.testing.assert_close(model(changed, hidden=hidden), model(pictures, hidden=hidden))
    assert (model(changed) - model(pictures)).abs().max() > 1e-3
    with pytest.raises(ef.BadInput, match=r"booleans \(1, 16\); given torch.float32 of shape \(1, 16\)"):
        model(pictures, hidden=hidden.float())
