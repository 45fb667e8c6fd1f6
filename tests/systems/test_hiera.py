"""`hiera` against timm's, and what a unit is."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back, same_features, timm_model


def test_equals_timm():
    sizes = {"embed_dim": 8, "stages": (1, 2, 2, 1), "img_size": (64, 64), "num_classes": 5}
    theirs = perturb(timm_model("hiera_tiny_224", **sizes), std=0.2)
    pictures = torch.randn(2, 3, 64, 64)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("tiny", 27.9e6),
        ("small", 35.0e6),
        ("base", 51.5e6),
        ("base-plus", 69.9e6),
        ("large", 213.7e6),
        ("huge", 672.8e6),
    ],
)
def test_sizes_are_the_published_ones(size, published):
    """Table 2 rounds to 28 M, 35 M, 52 M, 70 M, 214 M and 673 M."""
    assert parameters(on_meta(ef.design("hiera", size))) == pytest.approx(published, rel=0.002)


def test_units_are_alone_until_the_map_is_seen():
    """That is what lets pre-training drop masked units: two local stages, then attention to all."""
    model = perturb(ef.create("hiera", image=64, width=8, depths=(1, 2, 2), classes=3), std=0.2)
    pictures = torch.randn(1, 3, 64, 64)
    cells = model.embedding(pictures)
    changed = cells.values.clone().unflatten(1, (16, 16))
    changed[:, :8, 8:] += torch.randn(1, 8, 8, 8)
    seen = []
    for tokens in (cells, cells.update(changed.flatten(1, 2))):
        grids = []
        for stage in model.backbone.stages:
            tokens = stage(tokens, ef.Context())
            grids.append(tokens.values.unflatten(1, tokens.grid))
        seen.append(grids)
    for stage, side in ((0, 8), (1, 4)):
        before, after = (grids[stage] for grids in seen)
        close(after[:, side:], before[:, side:])
        close(after[:, :side, :side], before[:, :side, :side])
        assert (after[:, :side, side:] - before[:, :side, side:]).abs().max() > 1e-2
    assert (seen[0][2] - seen[1][2]).abs().amax((0, 3)).min() > 0


def test_a_map_that_holds_no_whole_units_is_refused():
    model = ef.create("hiera", image=64, width=8, depths=(1, 1), classes=3)
    with pytest.raises(ef.BadInput, match="a map of 18x16 cells cannot be cut into units of 8x8"):
        model(torch.zeros(1, 3, 72, 64))
