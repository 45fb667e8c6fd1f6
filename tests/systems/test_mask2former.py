"""Mask2Former against Hugging Face's: answers, what every layer says, gradients, loss; the masks that queries look inside."""

import pytest
import torch
import transformers as tf
from transformers.models.mask2former import modeling_mask2former as theirs_code

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.interop import live
from everyformer.objectives import BinaryMasks
from everyformer.tokens import Tokens
from interop.cases import CASES
from support.agreement import close, equal
from support.parts import make


@pytest.fixture(scope="module")
def both():
    (case,) = (case for case in CASES if case.name == "Mask2FormerForUniversalSegmentation")
    theirs = case.make()
    with torch.no_grad():
        theirs.model.pixel_level_module.decoder.mask_projection.bias.fill_(2)  # some masks become empty
    return live.from_transformers(theirs), theirs


def said(classes, masks):
    """All that queries say, as pixels last."""
    return torch.cat((masks.flatten(-2), classes), -1)


def test_the_same_layers_and_gradients(both):
    """Of pictures whose levels are no multiples of each other, some smaller than a window; some masks are empty. What the
    answer is made of them is compared with the other checkpoints.
    """
    ours, theirs = both
    pictures = torch.randn(2, 3, 72, 40, generator=torch.Generator().manual_seed(2))
    context = Context(notes={})
    ours(pictures, context=context)
    output = theirs(pictures, output_auxiliary_logits=True)
    layers = [
        *((each["class_queries_logits"], each["masks_queries_logits"]) for each in output.auxiliary_logits),
        (output.class_queries_logits, output.masks_queries_logits),
    ]
    assert 0 < (context.notes["masks"] < 0).all((-1, -2)).float().mean() < 0.7
    answer = said(context.notes["classes"], context.notes["masks"])
    keys = [f"head.blocks.{i}.cross.0.key.bias" for i in range(4)]  # softmax does not see them
    equal(ours, theirs, answer, torch.stack([said(*each) for each in layers]), nothing=keys)


def test_the_loss_equals_hugging_face(monkeypatch):
    """Of one sample, where their points are the middles of all pixels."""
    generator = torch.Generator().manual_seed(4)
    logits, masks = torch.randn(1, 5, 5, generator=generator), torch.randn(1, 5, 12, 16, generator=generator)
    labels = torch.randint(0, 3, (1, 12, 16), generator=generator)
    kinds = labels.unique()
    y, x = torch.meshgrid((torch.arange(12) + 0.5) / 12, (torch.arange(16) + 0.5) / 16, indexing="ij")
    every = torch.stack((x, y), -1).flatten(0, 1)[None]
    monkeypatch.setattr(theirs_code.torch, "rand", lambda *shape, **_: every.repeat(shape[0], 1, 1))
    config = tf.Mask2FormerConfig(num_labels=4, train_num_points=192, oversample_ratio=1.0, importance_sample_ratio=1.0)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    said = theirs_code.Mask2FormerLoss(config, weights)(
        masks, logits, [(labels == kinds[:, None, None]).float()], [kinds]
    )
    close(BinaryMasks().one(logits, masks, labels)[0], sum(weights[name] * each for name, each in said.items()), "loss")


def test_a_query_sees_what_its_mask_covers_and_all_where_that_is_nothing():
    masks = torch.full((1, 2, 4, 4), -1.0)
    masks[0, 0, 0, 0] = 1.0
    memory = Tokens(torch.zeros(1, 16, 1), grid=(4, 4))
    seen = make("heads.MaskedQueries").seen(masks, memory)["cells"]
    assert seen[0, 0].nonzero().flatten().tolist() == [0]
    assert seen[0, 1].all()


def test_cross_attention_sees_what_the_context_says():
    """As a memory without the rest; padding stays unseen."""
    mixer = ef.mixers.CrossAttention(16, heads=2, memory="cells")
    tokens, memory = Tokens(torch.randn(1, 2, 16)), Tokens(torch.randn(1, 5, 16))
    seen = torch.tensor([[[1, 0, 1, 0, 1], [1, 1, 0, 0, 0]]]).bool()
    real = torch.tensor([[1, 1, 1, 1, 0]]).bool()
    answer = mixer(tokens, Context(memory={"cells": memory.replace(mask=real)}, seen={"cells": seen}))
    for query, kept in enumerate(([0, 2], [0, 1])):
        few = Context(memory={"cells": Tokens(memory.values[:, kept])})
        close(answer[:, query], mixer(tokens, few)[:, query])


def test_deformable_attention_refuses_other_levels():
    mixer = ef.mixers.DeformableAttention(16, heads=2, levels=2, places=ef.spec(ef.positions.ScaledSinusoidal))
    with pytest.raises(ef.DoesNotFit, match="built for 2 levels, and the tokens fill 1 grids"):
        mixer(Tokens(torch.randn(1, 4, 16), grid=(2, 2)))


@pytest.mark.parametrize(
    ("size", "published"), [("swin-tiny", 47e6), ("swin-small", 69e6), ("swin-base", 107e6), ("swin-large", 216e6)]
)
def test_sizes_are_the_published_ones(size, published):
    """Table 1, of 133 classes."""
    assert parameters(on_meta(ef.design("mask2former", size, classes=133))) == pytest.approx(published, rel=0.015)
