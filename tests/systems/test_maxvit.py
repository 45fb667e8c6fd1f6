"""`maxvit` against timm's with the authors' shapes."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back, same_features


def timm_maxvit():
    of = pytest.importorskip("timm.models.maxxvit", exc_type=ImportError)
    config = of.MaxxVitCfg(
        embed_dim=(16, 24), depths=(1, 2), block_type=("M", "M"), stem_width=16, stem_bias=True, head_hidden_size=24,
        **of._tf_cfg(),
    )  # fmt: skip
    sizes = {"transformer_dim_head": 8, "transformer_window_size": (4, 4)}
    made = perturb(of.MaxxVit(config, img_size=32, num_classes=5, **sizes), std=0.1)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made


def test_equals_timm():
    theirs = timm_maxvit()
    pictures = torch.randn(2, 3, 32, 32)
    ours = agree(theirs, pictures)
    wanted = theirs.forward_intermediates(pictures, intermediates_only=True)
    same_features(ours, wanted[-2:], pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "published"), [("tiny", 31e6), ("small", 69e6), ("base", 120e6), ("large", 212e6), ("xlarge", 475e6)]
)
def test_sizes_are_the_published_ones(size, published):
    """Table 2."""
    assert parameters(on_meta(ef.design("maxvit", size))) == pytest.approx(published, rel=0.01)


def test_two_axes_see_the_whole_map_at_linear_cost():
    spread = ef.spec(ef.mixers.Spread, mixer=ef.spec(ef.mixers.Attention, heads=2), size=2)
    windows = ef.spec(ef.mixers.Windows, mixer=ef.spec(ef.mixers.Attention, heads=2), size=4)
    body = ef.spec(ef.backbones.Encoder, blocks=tuple(ef.spec(ef.backbones.Block, mixer=m) for m in (windows, spread)))
    values = torch.randn(1, 64, 8, requires_grad=True)
    after = body.build(8)(ef.Tokens(values, grid=(8, 8)))
    (gradient,) = torch.autograd.grad(after.values[0, 0].sum(), values)
    assert (gradient[0].abs().sum(1) > 0).all()
    model = on_meta(ef.design("maxvit"))
    few, many = (flops(model, model.embedding.example(1, size))[""] for size in (224, 448))
    assert many / few == pytest.approx(4, rel=0.01)


def test_zeros_stand_as_in_tensorflow():
    """More behind than before, so that a stride of 2 on an even side begins in the corner."""
    cells = torch.randn(1, 2, 6, 5)
    padded = ef.grids.same(cells, 3, 2)
    assert padded.shape == (1, 2, 7, 7)
    close(padded[:, :, :6, 1:6], cells)
