"""`pvt`, `pvt-v2`, `segformer` and `twins` against Hugging Face's and timm's; attention to a coarser map by the equation."""

import math

import pytest
import torch
from transformers import (
    PvtConfig,
    PvtForImageClassification,
    PvtV2Config,
    PvtV2ForImageClassification,
    SegformerConfig,
    SegformerForImageClassification,
)  # fmt: skip

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import perturb, same_as_function
from support.pyramids import agree, goes_back, same_features, timm_model

SIZES = {
    "hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1], "num_attention_heads": [1, 2, 3, 4], "image_size": 64,
    "num_labels": 5,
}  # fmt: skip


def hugging_face(kind, config, **changes):
    return perturb(kind(config(**{**SIZES, **changes})), std=0.1)


def test_pvt_equals_hugging_face():
    agree(hugging_face(PvtForImageClassification, PvtConfig), torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("size", [(64, 64), (70, 96)])
def test_pvt_v2_equals_hugging_face(size):
    theirs = hugging_face(PvtV2ForImageClassification, PvtV2Config, qkv_bias=False)
    goes_back(agree(theirs, torch.randn(2, 3, *size)), theirs)


@pytest.mark.parametrize("size", [(64, 64), (70, 96)])
def test_segformer_equals_hugging_face(size):
    theirs = hugging_face(SegformerForImageClassification, SegformerConfig)
    goes_back(agree(theirs, torch.randn(2, 3, *size)), theirs)


def test_stages_that_the_system_has_alike_are_refused_where_they_differ():
    with pytest.raises(ef.DoesNotFit, match=r"mlp_ratios=\[4, 4, 2, 4\], and the system here has only"):
        from_transformers(hugging_face(SegformerForImageClassification, SegformerConfig, mlp_ratios=[4, 4, 2, 4]))


def test_pvt_v2_equals_timm():
    sizes = {"embed_dims": (8, 16, 24, 32), "depths": (1, 2, 1, 1), "num_heads": (1, 2, 3, 4)}
    theirs = perturb(timm_model("pvt_v2_b0", num_classes=5, **sizes), std=0.2)
    pictures = torch.randn(2, 3, 64, 64)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize("name", ["twins_pcpvt_small", "twins_svt_small"])
def test_twins_equals_timm(name):
    sizes = {"embed_dims": (8, 16, 24, 32), "depths": (1, 2, 3, 2), "num_heads": (1, 2, 3, 4), "img_size": 128}
    window = {"wss": (4,) * 4} if "svt" in name else {}
    theirs = perturb(timm_model(name, num_classes=5, **sizes, **window), std=0.1)
    pictures = torch.randn(1, 3, 128, 128)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("system", "size", "published"),
    [
        ("pvt", "tiny", 13.2e6), ("pvt", "small", 24.5e6), ("pvt", "medium", 44.2e6), ("pvt", "large", 61.4e6),
        ("pvt-v2", "b0", 3.67e6), ("pvt-v2", "b2", 25.4e6), ("pvt-v2", "b3", 45.2e6), ("pvt-v2", "b4", 62.6e6),
        ("pvt-v2", "b5", 82.0e6), ("twins", "pcpvt-small", 24.1e6), ("twins", "pcpvt-base", 43.8e6),
        ("twins", "pcpvt-large", 60.9e6), ("twins", "svt-small", 24.0e6), ("twins", "svt-base", 56.0e6),
        ("twins", "svt-large", 99.2e6),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(system, size, published):
    assert parameters(on_meta(ef.design(system, size))) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("size", "published"), [("b1", 13.1e6), ("b2", 24.2e6), ("b3", 44.0e6), ("b4", 60.8e6), ("b5", 81.4e6)]
)
def test_encoders_of_segformer_are_the_published_ones(size, published):
    """Table 1a counts the encoder without a head."""
    model = on_meta(ef.design("segformer", size).remove("head"))
    assert parameters(model) == pytest.approx(published, rel=0.01)


def test_attention_to_a_coarser_map_equals_the_equation():
    """SRA of PVT, equations 1 to 4: keys and values from each 2x2 neighbourhood, through one map and a norm."""
    merging = ef.spec(ef.backbones.ConvMerging, kernel=2, stride=2, norm=ef.spec(ef.norms.LayerNorm))
    mixer = perturb(ef.spec(ef.mixers.ReducedAttention, heads=2, reduce=merging).build(8), std=0.3)

    def literal(p, x):
        coarse = []
        for y in range(0, 4, 2):
            for column in range(0, 6, 2):
                near = x[:, y : y + 2, column : column + 2].permute(0, 3, 1, 2).flatten(1)
                coarse.append(near @ p["reduce.project.weight"].flatten(1).T + p["reduce.project.bias"])
        coarse = torch.stack(coarse, 1)
        centred = coarse - coarse.mean(-1, keepdim=True)
        coarse = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        coarse = coarse * p["reduce.norm.weight"] + p["reduce.norm.bias"]
        query = x.flatten(1, 2) @ p["query.weight"].T + p["query.bias"]
        key, value = (coarse @ p["key_value.weight"].T + p["key_value.bias"]).chunk(2, -1)
        heads = []
        for h in (slice(0, 4), slice(4, 8)):
            heads.append(torch.softmax(query[..., h] @ key[..., h].mT / math.sqrt(4), -1) @ value[..., h])
        return torch.cat(heads, -1) @ p["output.weight"].T + p["output.bias"]

    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, child in mixer.named_children():
                self.add_module(name, child)

        def forward(self, x):
            return mixer(ef.Tokens(x.flatten(1, 2), grid=(4, 6)))

    same_as_function(Called(), literal, torch.randn(2, 4, 6, 8))


def test_options_of_different_numbers_of_stages_are_refused():
    with pytest.raises(ef.EveryformerError, match="one value for each stage"):
        ef.create("pvt-v2", depths=(1, 1))
