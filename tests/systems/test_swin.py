"""`swin` against Hugging Face's Swin and timm's; windows against a loop; locality and cost."""

import pytest
import torch
from transformers import SwinConfig, SwinForImageClassification, Swinv2Config, Swinv2ForImageClassification

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import close, perturb
from support.pyramids import agree, goes_back, same_features, timm_model

SIZES = {"embed_dim": 16, "depths": [1, 2, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4, "image_size": 128}
V2 = {**SIZES, "num_labels": 5, "depths": [1, 2], "num_heads": [1, 2], "image_size": 64}


def hugging_face(**changes):
    return perturb(SwinForImageClassification(SwinConfig(**{**SIZES, "num_labels": 5, "num_channels": 2, **changes})))


def timm_swin():
    sizes = {"embed_dim": 16, "depths": (1, 2, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4, "img_size": 128}
    return perturb(timm_model("swin_tiny_patch4_window7_224", num_classes=5, **sizes))


def test_equals_hugging_face():
    theirs = hugging_face(hidden_act="gelu_new")
    agree(theirs, torch.randn(2, 2, 128, 128))


def test_other_sizes_equal_hugging_face():
    """Windows, neighbourhoods and patches that do not come out even are filled up at the right and at the bottom."""
    theirs = hugging_face(depths=[2, 2], num_heads=[1, 2], qkv_bias=False)
    ours = from_transformers(theirs)
    pictures = torch.randn(2, 2, 74, 109)
    close(ours(pictures), theirs(pictures, interpolate_pos_encoding=True).logits)


def test_stages_equal_hugging_face():
    theirs = hugging_face()
    wanted = []
    for stage in theirs.swin.encoder.layers:
        stage.blocks[-1].register_forward_hook(lambda *call: wanted.append(call[-1]))
    pictures = torch.randn(1, 2, 128, 128)
    theirs(pictures)
    features = from_transformers(theirs).stages(pictures)
    assert [*features] == [f"backbone.stages.{i}" for i in range(4)]
    for tokens, values in zip(features.values(), wanted, strict=True):
        close(tokens.values, values if isinstance(values, torch.Tensor) else values[0])


def test_equals_timm_in_every_stage_and_in_gradients():
    theirs = timm_swin()
    pictures = torch.randn(2, 3, 128, 128)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


def hugging_face_v2(**changes):
    return perturb(Swinv2ForImageClassification(Swinv2Config(**{**V2, **changes})))


def timm_v2():
    sizes = {"embed_dim": 16, "depths": (1, 2), "num_heads": (1, 2), "window_size": 4, "img_size": 64}
    return perturb(timm_model("swinv2_tiny_window8_256", num_classes=5, **sizes))


@pytest.mark.parametrize("changes", [{}, {"pretrained_window_sizes": [3, 2]}], ids=["", "from another window"])
def test_v2_equals_hugging_face(changes):
    theirs = hugging_face_v2(**changes)
    agree(theirs, torch.randn(2, 3, 64, 64))


def test_v2_equals_timm():
    theirs = timm_v2()
    pictures = torch.randn(2, 3, 64, 64)
    ours = agree(theirs, pictures)
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("size", "exact"), [("tiny", 28_347_154), ("small", 49_728_418), ("base", 87_918_816), ("large", 196_739_932)]
)
def test_v2_sizes_are_the_authors(size, exact):
    assert parameters(on_meta(ef.design("swin-v2", size))) == exact


@pytest.mark.parametrize(("size", "published"), [("tiny", 29e6), ("small", 50e6), ("base", 88e6), ("large", 197e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1 rounds to millions; the exact counts are those of the authors' models."""
    exact = {"tiny": 28_288_354, "small": 49_606_258, "base": 87_768_224, "large": 196_532_476}[size]
    assert parameters(on_meta(ef.design("swin", size))) == exact
    assert round(exact / 1e6) in (published / 1e6, published / 1e6 - 1)


def test_shifted_windows_equal_a_loop_over_irregular_windows():
    """The rolled and masked map is attention inside the windows of a grid that begins `shift` cells further left."""
    attention = ef.spec(ef.mixers.Attention, heads=2, positions=ef.spec(ef.positions.RelativeGrid, window=4))
    mixer = perturb(ef.spec(ef.mixers.Windows, mixer=attention, size=4, shift=1).build(16), std=0.3)
    cells = torch.randn(1, 8, 12, 16)
    update = mixer(ef.Tokens(cells.flatten(1, 2), grid=(8, 12))).unflatten(1, (8, 12))
    edges = [(0, 1), (1, 5), (5, 8)], [(0, 1), (1, 5), (5, 9), (9, 12)]
    for top, bottom in edges[0]:
        for left, right in edges[1]:
            inside = cells[:, top:bottom, left:right]
            places = torch.cartesian_prod(torch.arange(bottom - top), torch.arange(right - left))[None]
            alone = mixer.mixer(ef.Tokens(inside.flatten(1, 2), positions=places))
            close(update[:, top:bottom, left:right].flatten(1, 2), alone)


def test_information_crosses_windows_only_through_a_shift():
    model = perturb(ef.create("swin", image=32, width=16, depths=(2,), heads=(2,), window=4, drop_path=0.0), std=0.3)
    before = model.embedding(torch.randn(1, 3, 32, 32))
    for blocks, reached in ((1, 0), (2, 1)):
        values = before.values.detach().requires_grad_()
        tokens = before.update(values)
        for block in model.backbone.stages[0].blocks[:blocks]:
            tokens = block(tokens, ef.Context())
        (gradient,) = torch.autograd.grad(tokens.values[0, 3 * 8 + 3].sum(), values)
        assert bool(gradient[0, 3 * 8 + 4].abs().sum() > 0) == bool(reached)
        assert gradient[0, 3 * 8 + 2].abs().sum() > 0


def test_cost_is_linear_in_the_area():
    model = on_meta(ef.design("swin", image=224))
    costs = [flops(model, model.embedding.example(1, size))[""] for size in (224, 448, 896)]
    assert costs[2] / costs[1] == pytest.approx(costs[1] / costs[0], rel=1e-3)
    assert costs[2] / costs[0] == pytest.approx(16, rel=1e-3)


def test_what_windows_cannot_do_is_said():
    with pytest.raises(ef.DoesNotFit, match="shift is at least 0 and below the size 4"):
        ef.spec(ef.mixers.Windows, size=4, shift=4).build(16)
    tokens = ef.Tokens(torch.randn(1, 17, 16), grid=(4, 4), prefix=1)
    with pytest.raises(ef.BadInput, match="stand in no window"):
        ef.spec(ef.mixers.Windows, size=2).build(16)(tokens)
    with pytest.raises(ef.EveryformerError, match="one value for each stage"):
        ef.create("swin", depths=(1, 1), heads=(1,))
