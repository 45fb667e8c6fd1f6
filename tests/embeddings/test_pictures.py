"""Patches and convolutional stems."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.embeddings import ConvStem, Patches


def stem(**options):
    return ef.spec(ConvStem, **{"channels": 2, "hidden": 6, **options}).build(8)


@pytest.mark.parametrize(
    ("kernel", "convs", "stride", "given"), [(3, 1, 1, None), (3, 2, 1, None), (7, 2, 2, None), (5, 1, 2, 2)]
)
def test_stem_equals_relu_then_pooling(kernel, convs, stride, given):
    """Pooling first gives the same values and gradients, ties and padded borders among them."""
    module = stem(kernel=kernel, convs=convs, stride=given)
    pictures = torch.randn(2, 2, 18, 13)
    pictures[:, :, 5:9] = 0
    cells = pictures
    for conv in module.convs:
        cells = F.max_pool2d(F.relu(F.conv2d(cells, conv.weight, None, stride, kernel // 2)), 3, 2, 1)
    found = module(pictures)
    assert found.grid == tuple(cells.shape[-2:])
    torch.testing.assert_close(found.values, cells.flatten(2).mT, rtol=0, atol=1e-6)
    weights = torch.randn_like(found.values)
    kernels = [conv.weight for conv in module.convs]
    ours = torch.autograd.grad((found.values * weights).sum(), kernels)
    theirs = torch.autograd.grad((cells.flatten(2).mT * weights).sum(), kernels)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("image", range(8, 40, 3))
@pytest.mark.parametrize(("kernel", "convs"), [(2, 1), (3, 1), (3, 2), (4, 2), (5, 1), (7, 2)])
def test_stem_knows_its_grid(image, kernel, convs):
    tokens = stem(kernel=kernel, convs=convs)(torch.zeros(1, 2, image, image))
    assert tokens.grid == ConvStem.grid(image, convs, kernel)
    assert tokens.count == tokens.grid[0] * tokens.grid[1]


@pytest.mark.parametrize("options", [{"convs": 0}, {"kernel": 1}])
def test_stem_refuses_what_cannot_be(options):
    with pytest.raises(ef.DoesNotFit, match="convs is at least 1 and kernel at least 2"):
        stem(**options)


@pytest.mark.parametrize("size", [(1, 1), (9, 5), (16, 12)])
def test_patches_are_filled_with_zeros_at_the_right_and_the_bottom(size):
    patches = ef.spec(Patches, patch=4, channels=2, first=1).build(8)
    pictures = torch.randn(3, 2, *size)
    padded = torch.zeros(3, 2, -(-size[0] // 4) * 4, -(-size[1] // 4) * 4)
    padded[:, :, : size[0], : size[1]] = pictures
    found, expected = patches(pictures), patches(padded)
    assert found.grid == (padded.shape[2] // 4, padded.shape[3] // 4)
    assert torch.equal(found.values, expected.values)


@pytest.mark.parametrize("part", [Patches, ConvStem], ids=lambda p: p.__name__)
def test_tokens_know_where_they_stand(part):
    tokens = ef.spec(part, channels=2, **({"patch": 2, "first": 2} if part is Patches else {})).build(8)(
        torch.zeros(1, 2, 6, 4)
    )
    lead = 2 if part is Patches else 0
    assert (tokens.prefix, tokens.grid) == (lead, (3, 2))
    assert tokens.positions[0, lead:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize("part", [Patches, ConvStem], ids=lambda p: p.__name__)
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 8, 8), (1, 8, 8, 2)])
def test_what_is_no_batch_of_pictures_is_refused(part, shape):
    with pytest.raises(ef.BadInput, match=r"expected pictures \(B, 2, height, width\); given a tensor of shape"):
        ef.spec(part, channels=2).build(8)(torch.zeros(shape))


@pytest.mark.parametrize("part", [Patches, ConvStem], ids=lambda p: p.__name__)
def test_examples_are_taken(part):
    module = ef.spec(part, channels=2, image=32).build(8)
    assert module(**module.example(3)).batch == 3
    assert module.example(1, image=48)["inputs"].shape == (1, 2, 48, 48)


def test_raster_sinusoid_counts_the_cells():
    from everyformer.positions import RasterSinusoidal, Sinusoidal

    module = stem(positions=ef.spec(RasterSinusoidal))
    with torch.no_grad():
        module.convs[0].weight.zero_()
    in_order = ef.spec(Sinusoidal).build(8, 1).add(ef.Tokens(torch.zeros(1, 12, 8)))
    torch.testing.assert_close(module(torch.zeros(1, 2, 8, 5)).values, in_order, rtol=0, atol=0)
