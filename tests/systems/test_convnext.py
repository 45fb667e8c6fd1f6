"""`convnext` against Hugging Face's and timm's."""

import pytest
import torch
from transformers import ConvNextConfig, ConvNextForImageClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import perturb
from support.pyramids import agree, goes_back, same_features, timm_model


def hugging_face():
    sizes = {"hidden_sizes": [8, 16, 24], "depths": [1, 2, 1], "num_stages": 3, "layer_scale_init_value": 0.5}
    return perturb(
        ConvNextForImageClassification(ConvNextConfig(**sizes, num_labels=5, num_channels=2, image_size=64)), std=0.2
    )


@pytest.mark.parametrize("size", [(64, 64), (72, 40)])
def test_equals_hugging_face(size):
    theirs = hugging_face()
    goes_back(agree(theirs, torch.randn(2, 2, *size)), theirs)


def test_equals_timm():
    made = timm_model("convnext_tiny", num_classes=5, dims=(8, 16, 24, 32), depths=(1, 2, 1, 1), ls_init_value=0.5)
    theirs = perturb(made, std=0.2)
    pictures = torch.randn(2, 3, 48, 48)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "published"), [("tiny", 28.6e6), ("small", 50.2e6), ("base", 88.6e6), ("large", 197.8e6)]
)
def test_sizes_are_the_published_ones(size, published):
    """Table 1: 29 M, 50 M, 89 M and 198 M; the decimals are of the official models."""
    assert parameters(on_meta(ef.design("convnext", size))) == pytest.approx(published, rel=0.002)
