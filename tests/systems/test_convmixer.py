"""`convmixer` against timm's, and how far it sees."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import perturb
from support.pyramids import agree, goes_back
from support.systems import model_of


def timm_convmixer(**changes):
    convmixer = pytest.importorskip("timm.models.convmixer", exc_type=ImportError)
    made = perturb(convmixer.ConvMixer(16, 2, kernel_size=5, patch_size=4, num_classes=5, **changes), std=0.2)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return made


@pytest.mark.parametrize("activation", [torch.nn.GELU, torch.nn.ReLU])
def test_equals_timm(activation):
    theirs = timm_convmixer(act_layer=activation)
    goes_back(agree(theirs, torch.randn(2, 3, 32, 24)), theirs)


def test_training_equals_timm():
    """The statistics of a batch, and what is kept of them."""
    theirs = timm_convmixer()
    ours = agree(theirs, torch.randn(2, 3, 16, 16))
    pictures = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(ours.train()(pictures), theirs.train()(pictures), rtol=1e-4, atol=1e-5)
    found, wanted = ours.backbone.blocks[1].feedforward.norm, theirs.blocks[1][3]
    torch.testing.assert_close(found.running_var, wanted.running_var)


@pytest.mark.parametrize(
    ("size", "published"), [("1536-20", 51.6e6), ("768-32", 21.1e6), ("1024-20", 24.4e6), ("256-8", 0.6e6)]
)
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("convmixer", size))) == pytest.approx(published, rel=0.01)


def test_each_block_sees_as_far_as_its_kernel():
    """After n blocks the gradient of a cell reaches a square of n (k - 1) + 1 cells and no further."""
    model = model_of(ef.design("convmixer", width=8, depth=2, kernel=3, patch=1, image=11))
    tokens = model.embedding(torch.randn(1, 3, 11, 11))
    values = tokens.values.detach().requires_grad_()
    after = model.backbone(tokens.update(values))
    (gradient,) = torch.autograd.grad(after.values[0, 60].sum(), values)
    seen = gradient[0].abs().sum(1).unflatten(0, (11, 11)) > 0
    wanted = torch.zeros(11, 11, dtype=torch.bool)
    wanted[3:8, 3:8] = True
    assert torch.equal(seen, wanted)
