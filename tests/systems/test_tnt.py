"""`tnt` against timm's, in both of the authors' wirings, and what words may change."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import perturb
from support.pyramids import agree, goes_back
from support.systems import model_of, tiny


def timm_tnt(**changes):
    tnt = pytest.importorskip("timm.models.tnt", exc_type=ImportError)
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 5, "embed_dim": 32, "inner_dim": 8, "depth": 2,
             "num_heads_inner": 2, "num_heads_outer": 4}  # fmt: skip
    return perturb(tnt.TNT(**{**sizes, **changes}), std=0.2)


@pytest.mark.parametrize("legacy", [True, False])
def test_equals_timm(legacy):
    theirs = timm_tnt(legacy=legacy)
    ours = agree(theirs, torch.randn(2, 3, 32, 32))
    with torch.no_grad():  # what the class token and its place are together is written as the token
        theirs.cls_token += theirs.patch_pos[:, :1]
        theirs.patch_pos[:, :1] = 0
    goes_back(ours, theirs)


@pytest.mark.parametrize(("size", "published"), [("ti", 6.1e6), ("s", 23.8e6), ("b", 65.6e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 2."""
    assert parameters(on_meta(ef.design("tnt", size))) == pytest.approx(published, rel=0.01)


def test_words_stay_in_their_sentence():
    """Without outer blocks, a word changes its own patch alone; with the fold at zero, no patch at all."""
    model = model_of(tiny("tnt", across=False))
    for block in model.backbone.blocks[:-1]:
        block.outer = ef.spec(ef.backbones.Encoder, blocks=()).build(32)
    whole = model.embedding(torch.randn(1, 3, 16, 16))
    words = slice(32, None)

    def changed(at):
        other = whole.values.clone()
        other[:, at, words] += 1
        return (model.backbone(whole.update(other)).values - model.backbone(whole).values)[0].abs().sum(-1) > 1e-6

    assert changed(2).tolist() == [i == 2 for i in range(whole.count)]
    with torch.no_grad():
        for block in model.backbone.blocks[:-1]:
            block.after.weight.zero_()
    assert not changed(2).any()


def test_words_that_leave_no_room_are_refused():
    with pytest.raises(ef.DoesNotFit, match="leave no room in tokens of width 16"):
        ef.spec(ef.backbones.WordBlock, words=4, word_width=4).build(16)
    with pytest.raises(ef.DoesNotFit, match="leave room for a sentence in tokens of width 64"):
        ef.spec(ef.embeddings.PatchWords, patch=16, stride=4, word_width=4).build(64)
