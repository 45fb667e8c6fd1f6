"""WeedSense against the authors' code, and its blocks against timm's."""

import re

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta
from everyformer.grids import as_map, as_tokens
from everyformer.objectives import PixelsAndTraits
from support.agreement import FIXTURES, close, perturb
from support.systems import model_of, tiny

SMALL = {
    "classes": 2, "weeks": 3, "image": 32, "channels": 1, "detail": (2, 2, 4), "stem": 2, "semantic": (2, 2, 4),
    "depths": (1, 1, 2), "ratio": 2.0, "hidden": 3, "deep": (0,), "deep_hidden": 2, "width": 4, "heads": 2, "mlp": 6,
    "traits": (4, 3),
}  # fmt: skip
NAMES = [
    (r"backbone\.detail\.stages\.0\.enter\.convs\.", "detail_branch.S1."),
    (r"backbone\.detail\.stages\.1\.enter\.convs\.", "detail_branch.S2."),
    (r"backbone\.detail\.stages\.2\.enter\.convs\.", "detail_branch.S3."),
    (r"backbone\.stages\.0\.enter\.enter\.", "semantic_branch.S1S2.conv_3x3."),
    (r"backbone\.stages\.0\.enter\.through\.", "semantic_branch.S1S2.left."),
    (r"backbone\.stages\.0\.enter\.", "semantic_branch.S1S2."),
    (r"backbone\.stages\.1\.enter\.blocks\.", "semantic_branch.S3."),
    (r"backbone\.stages\.2\.enter\.blocks\.", "semantic_branch.S4."),
    (r"backbone\.stages\.3\.enter\.blocks\.", "semantic_branch.S5_1."),
    (r"backbone\.stages\.4\.enter\.norm\.", "semantic_branch.S5_2.inner.1."),
    (r"backbone\.stages\.4\.enter\.whole\.", "semantic_branch.S5_2.inner.2."),
    (r"backbone\.stages\.4\.enter\.conv\.", "semantic_branch.S5_2.conv."),
    (r"\.middle\.0\.", ".dw_mid."), (r"\.up\.(\d)\.", r".pw_exp.\1."), (r"\.gate\.squeeze", ".se.conv_reduce"),
    (r"\.gate\.excite", ".se.conv_expand"), (r"\.down\.(\d)\.", r".pw_proj.\1."), (r"\.scale$", ".layer_scale.gamma"),
    (r"backbone\.join\.fine\.", "aggregation_layer.left1."), (r"backbone\.join\.coarse\.", "aggregation_layer.left2."),
    (r"backbone\.join\.fine_gate\.", "aggregation_layer.right1."), (r"backbone\.join\.coarse_gate\.", "aggregation_layer.right2."),
    (r"backbone\.join\.fuse\.", "aggregation_layer.conv."), (r"head\.head\.head\.enter\.", "output_head.conv_3x3."),
    (r"head\.head\.head\.classify", "output_head.conv_out.0"), (r"^head\.beside\.0\.enter\.", "aux2_head.conv_3x3."),
    (r"^head\.beside\.0\.inner\.", "aux2_head.conv_out.0."), (r"^head\.beside\.0\.classify", "aux2_head.conv_out.1"),
    (r"head\.head\.beside\.0\.enter", "temporal_decoder.project"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.mixer\.qkv\.", "temporal_decoder.transformer.self_attn.in_proj_"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.mixer\.output", "temporal_decoder.transformer.self_attn.out_proj"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.feedforward\.up", "temporal_decoder.transformer.feed_forward.0"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.feedforward\.down", "temporal_decoder.transformer.feed_forward.3"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.residual\.0\.norm", "temporal_decoder.transformer.norm1"),
    (r"head\.head\.beside\.0\.body\.blocks\.0\.residual\.1\.norm", "temporal_decoder.transformer.norm2"),
    (r"head\.head\.beside\.0\.maps\.0", "temporal_decoder.task_head.0"),
    (r"head\.head\.beside\.0\.maps\.1", "temporal_decoder.task_head.4"),
    (r"head\.head\.beside\.0\.norms\.0", "temporal_decoder.task_head.1"),
    (r"head\.head\.beside\.0\.norms\.1", "temporal_decoder.task_head.5"),
    (r"head\.head\.beside\.0\.figure", "temporal_decoder.height_output"),
    (r"head\.head\.beside\.0\.classify", "temporal_decoder.week_output"),
    (r"\.conv\.weight", ".0.weight"), (r"\.norm\.(weight|bias|running_mean|running_var)", r".1.\1"),
]  # fmt: skip
"""Theirs of ours, each pattern in turn; a convolution and its norm are 0 and 1 of a sequence there."""


def theirs(name):
    for pattern, other in NAMES:
        name = re.sub(pattern, other, name)
    return name


def spoken(model, with_grad=False):
    """The tensors of a model by their names in the authors' code, in the order of those."""
    learnt = dict(model.named_parameters())
    kept = {name: each for name, each in model.state_dict(keep_vars=True).items() if not name.endswith("tracked")}
    state = learnt if with_grad else kept
    return {theirs(name): state[name] for name in sorted(state, key=theirs)}


def answered(model, pictures):
    """The answer, the maps beside it and the traits."""
    notes = {}
    answer = model(pictures, context=Context(notes=notes))
    return answer, notes["maps"], notes["traits"]


def test_the_model_equals_the_authors():
    kept = load_file(FIXTURES / "weedsense.safetensors")
    model = ef.create("weedsense", **SMALL).eval()
    named = spoken(model)
    with torch.no_grad():
        weights = kept["weights"].float().split([each.numel() for each in named.values()])
        for each, given in zip(named.values(), weights, strict=True):
            each.copy_(given.view_as(each))
    answer, maps, traits = answered(model, kept["input"].float())
    for found, name in ((answer, "output"), (maps[0], "map"), (traits, "traits")):
        assert kept[name].std() > 0.05
        close(found, kept[name], name)
    total = (
        (answer * kept["cotangent"].float()).sum() + (maps[0] * kept["cotangent"].float()).sum() + traits.square().sum()
    )
    total.backward()
    learnt = spoken(model, with_grad=True)
    gradients = kept["gradients"].split([each.numel() for each in learnt.values()])
    for (name, each), wanted in zip(learnt.items(), gradients, strict=True):
        close(each.grad.flatten(), wanted, name)


def test_it_has_the_published_number_of_parameters():
    assert sum(each.numel() for each in on_meta(ef.design("weedsense")).parameters()) == pytest.approx(
        30.50e6, rel=1e-3
    )


@pytest.mark.parametrize(("start", "middle"), [(0, 3), (5, 0), (3, 5), (0, 0)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_universal_bottleneck_equals_timms(start, middle, stride):
    """The inverted bottleneck, the form of ConvNeXt, that with an extra convolution, and the feedforward."""
    from timm.layers import SqueezeExcite
    from timm.models._efficientnet_blocks import UniversalInvertedResidual

    options = {"ratio": 3.0, "start": start, "middle": middle}
    if stride == 2 and not start and not middle:
        with pytest.raises((ef.DoesNotFit, ValueError), match="has no stride"):
            ef.spec(ef.backbones.UniversalBottlenecks, stride=2, **options).build(16, 16)
        return
    ours = ef.spec(ef.backbones.UniversalBottlenecks, depth=1, stride=stride, squeeze=0.25, **options).build(16, 16)
    reference = UniversalInvertedResidual(
        16, 16, dw_kernel_size_start=start, dw_kernel_size_mid=middle, stride=stride, exp_ratio=3.0,
        se_layer=lambda width, **_: SqueezeExcite(width, rd_ratio=0.25), layer_scale_init_value=1e-5,
    )  # fmt: skip
    perturb(ours)
    with torch.no_grad():
        learnt = dict(reference.named_parameters())
        mine = list(ours.parameters())
        order = sorted(learnt, key=lambda name: PLACES.index(re.sub(r"\..*", "", name)))
        scale = order.pop(order.index("layer_scale.gamma"))
        for name, each in zip([scale, *order], mine, strict=True):
            learnt[name].copy_(each)
    cells = torch.randn(2, 16, 7, 8, generator=torch.Generator().manual_seed(0))
    found, wanted = as_map(ours.eval()(as_tokens(cells))), reference.eval()(cells)
    close(found, wanted)
    cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * cotangent).sum().backward()
    (wanted * cotangent).sum().backward()
    for name, each in zip([scale, *order], mine, strict=True):
        close(each.grad, learnt[name].grad, name)


PLACES = ["layer_scale", "dw_start", "pw_exp", "dw_mid", "se", "pw_proj"]


def test_each_loss_trains_its_own_head_and_the_encoder():
    model = model_of(tiny("weedsense"))
    generator = torch.Generator().manual_seed(0)
    batch = {
        "inputs": torch.randn(2, 3, 32, 32, generator=generator),
        "labels": torch.randint(0, 3, (2, 32, 32), generator=generator), "figure": torch.tensor([0.3, 2.0]),
        "stage": torch.tensor([1, 3]),
    }  # fmt: skip
    answer, maps, traits = answered(model, batch["inputs"])
    ce = torch.nn.functional.cross_entropy
    pixels = ce(answer, batch["labels"]) + 0.4 * sum(ce(each, batch["labels"]) for each in maps)
    height = (traits[:, 0] - batch["figure"]).square().mean()
    stage = ce(traits[:, 1:], batch["stage"])
    for weights in ((1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 1.0)):
        model.zero_grad()
        loss = PixelsAndTraits(weights=weights, share=0.8)(model, batch)
        close(loss.total / loss.count, weights[0] * pixels + weights[1] * height + weights[2] * stage)
        loss.total.backward()
        seen = {part: sum(each.grad.abs().sum() for each in model.get_submodule(part).parameters() if each.grad is not None)
                for part in ("backbone", "head.head.head", "head.beside", "head.head.beside")}  # fmt: skip
        assert seen["backbone"] > 0
        assert (seen["head.head.head"] > 0) == (seen["head.beside"] > 0) == (weights[0] > 0)
        assert (seen["head.head.beside"] > 0) == (weights[1] > 0)
    with pytest.raises(ef.DoesNotFit, match="no traits"):
        PixelsAndTraits()(model_of(tiny("unet")), batch)
    with pytest.raises((ef.DoesNotFit, ValueError), match="a head beside for all but the last"):
        ef.spec(ef.heads.DeepMaps, head=ef.spec(ef.heads.LinearDecoder, classes=2)).build((4, 4))
