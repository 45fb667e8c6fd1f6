"""`poolformer` against Hugging Face's and timm's, and what pooling must do."""

import pytest
import torch
from torch.nn import functional as F
from transformers import PoolFormerConfig, PoolFormerForImageClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back, same_features

CENTRED = ("residual.0.norm.bias",)
"""A constant that pooling takes away again."""


def hugging_face():
    sizes = {"hidden_sizes": [8, 16, 24], "depths": [1, 2, 1], "num_encoder_blocks": 3, "layer_scale_init_value": 0.5}
    kept = {"patch_sizes": [7, 3, 3], "strides": [4, 2, 2], "padding": [2, 1, 1], "num_labels": 5, "num_channels": 2}
    return perturb(PoolFormerForImageClassification(PoolFormerConfig(**sizes, **kept)), std=0.2)


def timm_poolformer(norm):
    metaformer = pytest.importorskip("timm.models.metaformer", exc_type=ImportError)
    made = metaformer.MetaFormer(
        depths=(1, 2), dims=(8, 16), num_classes=5, downsample_norm=None, token_mixers=metaformer.Pooling,
        mlp_act=torch.nn.GELU, mlp_bias=True, norm_layers=metaformer.GroupNorm1, layer_scale_init_values=0.5,
        res_scale_init_values=None, output_norm=getattr(metaformer, norm), use_mlp_head=False,
    )  # fmt: skip
    return perturb(made, std=0.2)


@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_equals_hugging_face(size):
    theirs = hugging_face()
    goes_back(agree(theirs, torch.randn(2, 2, *size), CENTRED), theirs)


@pytest.mark.parametrize("norm", ["GroupNorm1", "LayerNorm2d"])
def test_equals_timm(norm):
    """Of one vector both norms are the same but for their epsilon."""
    theirs = timm_poolformer(norm)
    pictures = torch.randn(2, 3, 48, 48)
    ours = agree(theirs, pictures, CENTRED)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "published"), [("s12", 11.9e6), ("s24", 21.4e6), ("s36", 30.8e6), ("m36", 56.1e6), ("m48", 73.4e6)]
)
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("poolformer", size))) == pytest.approx(published, rel=0.005)


def test_a_constant_map_is_left_alone():
    """Also at the border, where the mean is over the cells that there are."""
    pool = ef.spec(ef.mixers.Pooling).build(4)
    close(pool(ef.Tokens(torch.full((1, 30, 4), 2.5), grid=(5, 6))), torch.zeros(1, 30, 4))


def test_pooling_is_a_loop_over_neighbours():
    cells = torch.randn(1, 4, 5, 2)
    update = ef.spec(ef.mixers.Pooling).build(2)(ef.Tokens(cells.flatten(1, 2), grid=(4, 5)))
    for y in range(4):
        for x in range(5):
            near = cells[0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].flatten(0, 1)
            close(update[0, y * 5 + x], near.mean(0) - cells[0, y, x])


def test_any_mixer_stands_in_a_metaformer():
    """The claim of the title: the block takes any mixer, by one changed word."""
    design = ef.design("poolformer", widths=(16, 32), depths=(1, 1), classes=3, image=32)
    pictures = torch.randn(2, 3, 32, 32)
    mixers = [ef.spec(ef.mixers.Attention, heads=2), ef.spec(ef.mixers.Depthwise), ef.spec(ef.mixers.Windows, size=4)]
    for mixer in mixers:
        model = design.swap("backbone.stages.*.blocks.*.mixer", mixer).build(seed=0)
        F.cross_entropy(model(pictures), torch.tensor([0, 2])).backward()
        assert all(p.grad is not None for p in model.parameters())
    built = design.build(seed=0)
    ef.swap(built, "backbone.stages.1.blocks.0.mixer", mixers[0])
    assert built.backbone.stages[1].blocks[0].mixer.heads == 2
