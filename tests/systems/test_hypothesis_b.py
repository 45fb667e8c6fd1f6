"""`hypothesis-b`: patches tile the picture, follow its detail, and at both ends are those of a plain ViT."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from support.systems import model_of, tiny


def embedding(tokens, **more):
    return ef.spec(ef.embeddings.QuadPatches, patch=8, smallest=2, tokens=tokens, channels=1, image=16, **more).build(
        12
    )


def covered(part, pictures):
    """How often each pixel is in a patch that is left, found by descending the tree by hand."""
    found = torch.zeros(len(pictures), 16, 16)
    for row, leaves in enumerate(part.leaves(pictures).tolist()):
        for leaf in leaves:
            side, start = 8, 0
            while leaf - start >= (16 // side) ** 2:
                start += (16 // side) ** 2
                side //= 2
            y, x = divmod(leaf - start, 16 // side)
            found[row, y * side : (y + 1) * side, x * side : (x + 1) * side] += 1
    return found


@pytest.mark.parametrize(("tokens", "reached"), [(1, 4), (4, 4), (6, 4), (7, 7), (30, 28), (64, 64), (500, 64)])
def test_patches_tile_the_picture_once_and_keep_the_budget(tokens, reached):
    part, pictures = embedding(tokens), torch.randn(3, 1, 16, 16)
    assert part(pictures).count == reached
    assert torch.equal(covered(part, pictures), torch.ones(3, 16, 16))


@pytest.mark.parametrize(("tokens", "factor", "level"), [(4, 4, 0), (64, 1, 2)])
def test_at_both_ends_it_is_the_uniform_grid(tokens, factor, level):
    part, pictures = embedding(tokens), torch.randn(2, 1, 16, 16)
    patches = ef.spec(ef.embeddings.Patches, patch=2, channels=1, image=16 // factor).build(12)
    patches.load_state_dict({name: value for name, value in part.state_dict().items() if name.startswith("project")})
    uniform = patches(F.avg_pool2d(pictures, factor))
    tokens = part(pictures)
    torch.testing.assert_close(tokens.values, uniform.values + part.sizes[level])
    centres = (uniform.places + 0.5) * factor - 0.5
    torch.testing.assert_close(tokens.places, centres.expand(2, -1, -1))


def test_small_patches_stand_where_the_detail_is():
    pictures = torch.zeros(1, 1, 16, 16)
    pictures[:, :, 8:12, 4:8] = torch.rand(1, 1, 4, 4)
    part = embedding(10)
    assert part.leaves(pictures)[0].tolist() == [
        0,
        1,
        3,
        *(4 + i for i in (8, 12, 13)),
        *(20 + i for i in (34, 35, 42, 43)),
    ]


def test_what_is_cut_first_has_the_most_variance_times_area():
    part, pictures = embedding(7), torch.randn(5, 1, 16, 16)
    for picture in pictures:
        cells = picture[0].unfold(0, 8, 8).unfold(1, 8, 8).flatten(0, 1).flatten(1)
        worst = int(cells.var(1, unbiased=False).argmax())
        left = part.leaves(picture[None])[0, :3].tolist()
        assert left == [i for i in range(4) if i != worst]


def test_the_company_of_a_picture_changes_nothing():
    model = model_of(tiny("hypothesis-b"))
    pictures = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(model(pictures)[1:2], model(pictures[1:2]), rtol=1e-5, atol=1e-5)


def test_a_patch_that_is_no_power_of_two_times_the_smallest_is_refused():
    with pytest.raises(ef.DoesNotFit, match="power of two; given patch=12, smallest=4"):
        ef.spec(ef.embeddings.QuadPatches, patch=12, smallest=4).build(8)
