"""`dinov2` and `vit-registers` against Hugging Face's DINOv2, and what a register may change."""

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
)

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from support.agreement import close, equal, perturb, same_answers
from support.systems import model_of, tiny

SIZES = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 24,
    "patch_size": 8, "num_channels": 2, "num_labels": 7,
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"use_swiglu_ffn": True, "qkv_bias": False, "mlp_ratio": 4}])
def test_equals_hugging_face_both_ways(changes):
    theirs = perturb(Dinov2ForImageClassification(Dinov2Config(**{**SIZES, **changes})))
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    equal(ours, theirs, ours(pictures), theirs(pictures).logits)
    same_answers(to_transformers(ours)(pictures).logits, ours(pictures))


def test_equals_hugging_face_without_classes():
    theirs = perturb(Dinov2Model(Dinov2Config(**SIZES)))
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    equal(ours, theirs, ours(pictures), theirs(pictures).pooler_output)


def test_equals_hugging_face_with_registers():
    theirs = perturb(
        Dinov2WithRegistersForImageClassification(Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3))
    )
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    answer, expected = ours(pictures), theirs(pictures).logits
    same_answers(answer, expected)
    answer.square().sum().backward()
    expected.square().sum().backward()
    given = theirs.dinov2_with_registers.embeddings
    close(ours.embedding.first.grad[1:], given.register_tokens.grad[0])
    close(ours.embedding.first.grad[:1], given.cls_token.grad[0])
    close(ours.embedding.project.weight.grad, given.patch_embeddings.projection.weight.grad)
    same_answers(to_transformers(ours, "Dinov2WithRegistersForImageClassification")(pictures).logits, ours(pictures))


@pytest.mark.parametrize(
    ("size", "published"),
    [("small", 22_056_576), ("base", 86_580_480), ("large", 304_368_640), ("giant", 1_136_480_768)],
)
def test_sizes_are_the_published_ones(size, published):
    """Of the authors' backbones (21M, 86M, 300M, 1.1B), which keep a token of hidden patches and a place of the class."""
    design = ef.design("dinov2", size)
    assert parameters(on_meta(design)) == published - 2 * design.spec.get("width")


def test_registers_have_no_place_and_no_head_reads_them():
    model = model_of(tiny("vit-registers"))
    pictures = torch.randn(2, 3, 16, 16)
    tokens = model.features(pictures)
    assert (tokens.prefix, tokens.count) == (5, 5 + 16)
    assert torch.equal(model.embedding.positions.table.new_zeros(1), tokens.places[0, :5].abs().sum()[None].float())
    changed = tokens.update(tokens.values.clone())
    changed.values[:, 1:5] += 1
    torch.testing.assert_close(model.head(changed), model.head(tokens), rtol=0, atol=0)


def test_none_is_a_plain_vit():
    same = {"image": 32, "patch": 8, "depth": 2, "width": 48, "heads": 4}
    assert ef.design("vit-registers", registers=0, **same).spec == ef.design("vit", **same).spec
