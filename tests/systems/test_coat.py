"""`coat` against timm's, with and without layers across scales."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back
from support.systems import model_of, tiny


def timm_coat(**changes):
    coat = pytest.importorskip("timm.models.coat", exc_type=ImportError)
    sizes = {"img_size": 64, "patch_size": 4, "num_classes": 5, "num_heads": 2, "serial_depths": (1, 2, 1, 2),
             "crpe_window": {3: 1, 5: 1}, "mlp_ratios": (2, 2, 2, 2)}  # fmt: skip
    return perturb(coat.CoaT(**{**sizes, **changes}), std=0.2)


@pytest.mark.parametrize(
    "changes",
    [{"embed_dims": (8, 12, 16, 20)}, {"embed_dims": (8, 16, 16, 16), "parallel_depth": 2}],
    ids=["lite", "full"],
)
def test_equals_timm(changes):
    theirs = timm_coat(**changes)
    ours = agree(theirs, torch.randn(2, 3, 64, 64))
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "published"),
    [("lite-tiny", 5.7e6), ("lite-mini", 11e6), ("lite-small", 20e6), ("lite-medium", 44.6e6), ("tiny", 5.5e6),
     ("mini", 10.3e6), ("small", 21.7e6)],
)  # fmt: skip
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("coat", size))) == pytest.approx(published, rel=0.01)


def test_blocks_of_a_stage_share_their_convolutions():
    model = model_of(tiny("coat", depths=(2, 2)))
    one, other = model.backbone.stages[1].blocks
    assert one.blocks[0] is other.blocks[0]
    assert one.blocks[1].mixer.relative is other.blocks[1].mixer.relative is model.backbone.layers[0].mixer[0].relative
    assert one.blocks[1].mixer.qkv is not other.blocks[1].mixer.qkv


def test_factored_attention_is_the_product_in_either_order():
    """Q (softmax(K)^T V) is (Q softmax(K)^T) V, of quadratic cost; without convolution there is nothing else."""
    mixer = perturb(ef.spec(ef.mixers.FactorAttention, heads=2, windows=((3, 2),)).build(8), std=0.3)
    torch.nn.init.zeros_(mixer.relative.convs[0].weight)
    torch.nn.init.zeros_(mixer.relative.convs[0].bias)
    tokens = ef.Tokens(torch.randn(1, 6, 8), grid=(2, 3))
    query, key, value = (x[0].unflatten(-1, (2, 4)).transpose(0, 1) for x in mixer.qkv(tokens.values).chunk(3, -1))
    mixed = (query @ key.softmax(1).mT / 2) @ value
    close(mixer(tokens)[0], mixer.output(mixed.transpose(0, 1).flatten(1)))


def test_cost_is_linear_in_the_area():
    model = on_meta(ef.design("coat", "lite-tiny"))
    few, many = (flops(model, model.embedding.example(1, size))[""] for size in (224, 448))
    assert many / few == pytest.approx(4, rel=0.01)


def test_what_does_not_add_up_is_refused():
    with pytest.raises(ef.DoesNotFit, match="for 4 heads in all"):
        ef.spec(ef.mixers.FactorAttention, heads=4).build(8)
    with pytest.raises(ef.DoesNotFit, match=r"widths \[16, 24\] cannot be added up"):
        ef.create("coat", widths=(8, 16, 24), depths=(1, 1, 1), ratios=(1.0, 1.0, 1.0))
