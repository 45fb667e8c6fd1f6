"""`deit` against Hugging Face's DeiT and timm's, and what its two tokens learn from."""

import pytest
import torch
from torch.nn import functional as F
from transformers import DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_timm, from_transformers, to_transformers
from everyformer.objectives import Distillation, HardDistillation
from support.agreement import equal, perturb, same_answers
from support.systems import model_of, tiny

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


@pytest.mark.parametrize("kind", [DeiTForImageClassificationWithTeacher, DeiTForImageClassification])
def test_equals_hugging_face_both_ways(kind):
    config = DeiTConfig(**SIZES, image_size=24, patch_size=8, num_channels=2, num_labels=7)
    theirs = perturb(kind(config))
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    equal(ours, theirs, ours(pictures), theirs(pictures).logits)
    back = to_transformers(ours)
    assert type(back) is kind
    same_answers(back(pictures).logits, ours(pictures))


def test_equals_timm():
    timm = pytest.importorskip("timm", exc_type=ImportError)
    theirs = timm.create_model(
        "deit_tiny_distilled_patch16_224", pretrained=False, img_size=32, patch_size=8, num_classes=5, depth=2
    )
    theirs = perturb(theirs)
    ours = from_timm(theirs)
    pictures = torch.randn(2, 3, 32, 32)
    equal(ours, theirs, ours(pictures), theirs(pictures))


@pytest.mark.parametrize(("size", "published"), [("tiny", 5_910_800), ("small", 22_436_432), ("base", 87_338_192)])
def test_sizes_are_the_published_ones(size, published):
    """Of the authors' distilled models (6M, 22M, 87M); a leading token here is theirs and its position in one."""
    design = ef.design("deit", size)
    assert parameters(on_meta(design)) == published - 2 * design.spec.get("width")


@pytest.mark.parametrize("kind", [Distillation, HardDistillation])
def test_the_distillation_token_learns_from_the_teacher_and_the_class_token_from_the_labels(kind):
    """Equations 2 and 3, with the head of each token in the place of psi(Z_s)."""
    student, teacher = model_of(tiny("deit")), model_of(tiny("vit"), seed=9)
    pictures, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 2, 1, 1])
    objective = kind(share=0.3)
    objective.teach(teacher)
    loss = objective(student, {"inputs": pictures, "labels": labels})
    tokens = student.features(pictures).values
    by_class = student.head.classify(tokens[:, 0])
    by_distillation = student.head.distil(tokens[:, 1])
    told = teacher(pictures)
    if kind is HardDistillation:
        taught = F.cross_entropy(by_distillation, told.argmax(-1), reduction="sum")
    else:
        p = torch.softmax(told / 3, -1)
        taught = 9 * (p * (p.log() - torch.log_softmax(by_distillation / 3, -1))).sum()
    expected = 0.7 * F.cross_entropy(by_class, labels, reduction="sum") + 0.3 * taught
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student(pictures), (by_class + by_distillation) / 2)


def test_a_head_without_two_leading_tokens_is_refused():
    model = tiny("deit").set("embedding.first", 1).build()
    with pytest.raises(ef.BadInput, match="1 tokens lead; give the embedding first=2"):
        model(torch.zeros(1, 3, 16, 16))
