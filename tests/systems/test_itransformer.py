"""`itransformer` against a run of the authors' code, torch's encoder, and the laws that its equations obey."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.interop.weights import layer
from support.agreement import perturb, recorded, same_answers


def small(**changes):
    sizes = {"lookback": 12, "horizon": 6, "width": 16, "hidden": 24, "depth": 2, "heads": 4}
    return perturb(ef.create("itransformer", **{**sizes, **changes}), std=0.1)


def series(batch=2, variates=5, lookback=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, lookback, variates, generator=generator) * 2 + 3


def test_equals_a_run_of_the_official_code():
    """Three variates, two time stamps; a shift of all keys moves no softmax, so a third of that gradient is zero."""
    pairs = layer("embedding.project", "enc_embedding.value_embedding")
    for i in range(2):
        ours, theirs = f"backbone.blocks.{i}", f"encoder.attn_layers.{i}"
        own = f"{theirs}.attention"
        pairs += layer(f"{ours}.mixer.qkv", *(f"{own}.{name}_projection" for name in ("query", "key", "value")))
        pairs += layer(f"{ours}.mixer.output", f"{own}.out_projection")
        pairs += layer(f"{ours}.residual.0.norm", f"{theirs}.norm1")
        pairs += layer(f"{ours}.feedforward.up", f"{theirs}.conv1")
        pairs += layer(f"{ours}.feedforward.down", f"{theirs}.conv2")
        pairs += layer(f"{ours}.residual.1.norm", f"{theirs}.norm2")
    pairs += layer("backbone.norm", "encoder.norm") + layer("head.project", "projector")
    recorded("itransformer", small(), pairs, fields=("marks",))


def test_encoder_equals_torch():
    ours = small()
    one = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True)
    theirs = nn.TransformerEncoder(one, 2, nn.LayerNorm(16), enable_nested_tensor=False).train()
    with torch.no_grad():
        for block, copy in zip(ours.backbone.blocks, theirs.layers, strict=True):
            copy.self_attn.in_proj_weight.copy_(block.mixer.qkv.weight)
            copy.self_attn.in_proj_bias.copy_(block.mixer.qkv.bias)
            copy.self_attn.out_proj.load_state_dict(block.mixer.output.state_dict())
            copy.linear1.load_state_dict(block.feedforward.up.state_dict())
            copy.linear2.load_state_dict(block.feedforward.down.state_dict())
            copy.norm1.load_state_dict(block.residual[0].norm.state_dict())
            copy.norm2.load_state_dict(block.residual[1].norm.state_dict())
        theirs.norm.load_state_dict(ours.backbone.norm.state_dict())
    tokens = torch.randn(3, 7, 16)
    same_answers(ours.backbone(ef.Tokens(tokens)).values, theirs(tokens))


def test_permuting_variates_permutes_the_forecast():
    model, x, order = small(), series(), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(x[..., order]), model(x)[..., order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("variates", [1, 2, 30])
def test_any_number_of_variates(variates):
    assert small()(series(variates=variates)).shape == (2, 6, variates)


def test_one_variate_attends_to_itself_alone():
    """With one token the softmax is 1, so queries and keys count for nothing."""
    model, x = small(), series(variates=1)
    before = model(x)
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.mixer.qkv.weight[:32].normal_()
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-6)


def test_affine_law():
    """forecast(a x + b) = a forecast(x) + b for each variate, a > 0; the eps under the root costs less than 1e-3."""
    model, x = small(), series()
    a, b = torch.rand(5) * 4 + 0.5, torch.randn(5) * 10
    torch.testing.assert_close(model(a * x + b), a * model(x) + b, rtol=1e-3, atol=1e-3)


def test_time_stamps_are_heard_and_not_forecast():
    model, x = small(), series()
    marks = torch.rand(2, 12, 4)
    with_marks = model(x, marks=marks)
    assert with_marks.shape == (2, 6, 5)
    assert (with_marks - model(x)).abs().max() > 1e-2
    assert (with_marks - model(x, marks=marks.flip(1))).abs().max() > 1e-3


def test_features_are_those_that_the_forecast_is_made_of():
    model, x = small(), series()
    normal, kept = model.reversible(x)
    tokens = model.features(x)
    assert tokens.values.shape == (2, 5, 16)
    torch.testing.assert_close(model.reversible.restore(model.head(tokens), kept), model(x), rtol=0, atol=0)
    torch.testing.assert_close(tokens.values, model.backbone(model.embedding(normal)).values, rtol=0, atol=0)


def test_wrong_input_is_refused():
    model = small()
    with pytest.raises(ef.BadInput, match=r"\(B, 12, variates\); given a tensor of shape \(2, 10, 5\)"):
        model(series(lookback=10))
    with pytest.raises(ef.BadInput, match=r"time stamps of shape \(2, 11, 4\) beside series of shape \(2, 12, 5\)"):
        model(series(), marks=torch.zeros(2, 11, 4))
