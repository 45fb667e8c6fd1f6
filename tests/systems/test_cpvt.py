"""`cpvt`: its generator against timm's, and what positions from a convolution must and must not do."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb

SIZES = {"image": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2, "classes": 5, "drop_path": 0.0}


def generator(padding="zeros"):
    design = ef.design("cpvt", **SIZES).set("backbone.blocks.1.mixer.padding", padding)
    return perturb(design.build(seed=0), std=0.3).backbone.blocks[1]


def test_the_generator_equals_timm_and_lets_leading_tokens_pass():
    twins = pytest.importorskip("timm.models.twins", exc_type=ImportError)
    theirs, ours = twins.PosConv(16, 16), generator()
    theirs.proj[0].load_state_dict(ours.mixer.conv.state_dict())
    values = torch.randn(2, 21, 16)
    found = ours(ef.Tokens(values, grid=(4, 5), prefix=1)).values
    close(found[:, 1:], theirs(values[:, 1:], (4, 5)))
    assert torch.equal(found[:, :1], values[:, :1])


def test_without_a_border_positions_only_move_along():
    """Circular padding: exactly equivariant. Zeros: the border tells where a cell stands."""
    values = torch.randn(1, 4, 5, 16)
    for padding, equal in (("circular", True), ("zeros", False)):
        block = generator(padding)
        moved = block(ef.Tokens(values.roll((1, 2), (1, 2)).flatten(1, 2), grid=(4, 5))).values
        still = block(ef.Tokens(values.flatten(1, 2), grid=(4, 5))).values
        wanted = still.unflatten(1, (4, 5)).roll((1, 2), (1, 2)).flatten(1, 2)
        assert torch.allclose(moved, wanted, atol=1e-5) == equal


def test_the_order_of_patches_counts_only_through_the_generator():
    pictures = torch.randn(1, 3, 32, 32)
    cells = pictures.unfold(2, 8, 8).unfold(3, 8, 8)
    mirrored = cells.flip(2, 3).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 32, 32)
    whole = ef.design("cpvt", **SIZES)
    for design, equal in ((whole, False), (whole.remove("backbone.blocks.1"), True)):
        model = perturb(design.build(seed=0), std=0.2)
        assert ((model(pictures) - model(mirrored)).abs().max() < 1e-4) == equal


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("size", [(32, 32), (64, 40)])
def test_any_size_of_picture(first, size):
    assert ef.create("cpvt", **SIZES, first=first).eval()(torch.randn(2, 3, *size)).shape == (2, 5)


def test_a_generator_costs_a_kernel_and_a_shift_for_each_channel():
    with_one, with_two = (parameters(on_meta(ef.design("cpvt", "tiny", generators=n))) for n in (1, 2))
    assert with_two - with_one == 192 * (3 * 3 + 1)
    vit = parameters(on_meta(ef.design("vit", "tiny").remove("embedding.positions")))
    assert with_one - vit == 192 * (3 * 3 + 1)
