"""`pit` against timm's."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_timm
from support.agreement import perturb
from support.pyramids import agree, goes_back, same_features, timm_model


def timm_pit(name="pit_ti_224", **changes):
    sizes = {"base_dims": [8, 8, 8], "depth": [1, 2, 1], "heads": [1, 2, 4], "img_size": 80, "num_classes": 5}
    return perturb(timm_model(name, **{**sizes, **changes}), std=0.2)


def test_equals_timm():
    theirs = timm_pit()
    pictures = torch.randn(2, 3, 80, 80)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


def test_a_distilled_one_is_refused():
    with pytest.raises(ef.DoesNotFit, match="tokens=2, and the system here has only 1"):
        from_timm(timm_pit("pit_ti_distilled_224"))


@pytest.mark.parametrize(("size", "published"), [("tiny", 4.9e6), ("xs", 10.6e6), ("small", 23.5e6), ("base", 73.8e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1 and the authors' list."""
    assert parameters(on_meta(ef.design("pit", size))) == pytest.approx(published, rel=0.012)


def test_grids_are_those_of_table_1():
    model = on_meta(ef.design("pit", "tiny", classes=3))
    grids = [tokens.grid for tokens in model.stages(torch.zeros(1, 3, 224, 224, device="meta")).values()]
    assert grids == [(27, 27), (14, 14), (7, 7)]


def test_leading_tokens_are_refused_where_they_cannot_pass():
    tokens = ef.Tokens(torch.randn(1, 17, 8), grid=(4, 4), prefix=1)
    with pytest.raises(ef.BadInput, match="1 leading tokens cannot pass PatchMerging"):
        ef.spec(ef.backbones.PatchMerging).build(8, 16)(tokens)
