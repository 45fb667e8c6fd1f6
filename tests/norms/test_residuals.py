"""Arrangements of norm and update against the papers' equations, and what happens to an update before it is added."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.norms import AdaptivePreNorm, LayerScale, PostNorm, PreNorm, SandwichNorm, StochasticDepth, TrunkNorm
from everyformer.tokens import Tokens, pack, unpack

WIDTH = 8
NORM = ef.spec(ef.norms.LayerNorm, eps=0.1)


def values(batch=3, count=5, seed=0):
    return torch.randn(batch, count, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def f(x):
    """A layer that mixes tokens."""
    return torch.tanh(x.cumsum(1) * 0.5)


def layer(tokens):
    return f(tokens.values)


def made(part, **options):
    """The arrangement with its norms off their start."""
    built = ef.spec(part, **options).build(WIDTH)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return built


def norm(n, x):
    return nn.functional.layer_norm(x, (WIDTH,), n.weight, n.bias, 0.1)


EQUATIONS = {
    PreNorm: lambda r, x: x + f(norm(r.norm, x)),
    PostNorm: lambda r, x: norm(r.norm, x + f(x)),
    SandwichNorm: lambda r, x: x + norm(r.norm[1], f(norm(r.norm[0], x))),
    TrunkNorm: lambda r, x: norm(r.norm, x) + f(norm(r.norm, x)),
}


@pytest.mark.parametrize("part", EQUATIONS, ids=lambda part: part.__name__)
def test_arrangement_equals_its_equation(part):
    residual, x = made(part, norm=NORM), values()
    found = residual(Tokens(x, prefix=2), layer, Context())
    assert found.prefix == 2
    torch.testing.assert_close(found.values, EQUATIONS[part](residual, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", EQUATIONS, ids=lambda part: part.__name__)
def test_branches_meet_the_update_alone(part):
    """With a factor of zero nothing of the layer is left, and the trunk is as it was."""
    residual, x = (
        made(part, norm=NORM, branches=(ef.spec(LayerScale, start=0.5), ef.spec(LayerScale, start=2.0))),
        values(),
    )
    with torch.no_grad():
        residual.branches[0].factor.zero_()
    trunk = x if part in (PreNorm, SandwichNorm) else norm(residual.norm, x)
    torch.testing.assert_close(residual(Tokens(x), layer, Context()).values, trunk, rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", EQUATIONS, ids=lambda part: part.__name__)
def test_dropout_is_on_the_update_in_training_alone(part):
    residual, x = made(part, norm=NORM, dropout=0.5), values(batch=64)
    without = EQUATIONS[part](residual, x)
    residual.train()
    found = residual(Tokens(x), layer, Context()).values
    assert (found - without).abs().max() > 0.1
    if part in (PreNorm, TrunkNorm):
        trunk = x if part is PreNorm else norm(residual.norm, x)
        update, whole = found - trunk, without - trunk
        zero = update.abs() < 1e-6
        assert 0.45 < zero.float().mean() < 0.55
        torch.testing.assert_close(update[~zero], 2 * whole[~zero], rtol=0, atol=1e-5)
    residual.eval()
    torch.testing.assert_close(residual(Tokens(x), layer, Context()).values, without, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("part", "first"), [(PreNorm, True), (PostNorm, False)])
def test_pre_and_post_norm_equal_torch(part, first):
    """The feedforward half of torch's own layer; its attention gives nothing."""
    theirs = nn.TransformerEncoderLayer(WIDTH, 2, 16, 0.0, batch_first=True, norm_first=first).train()
    nn.init.zeros_(theirs.self_attn.out_proj.weight)
    residual, x = ef.spec(part).build(WIDTH), values()
    with torch.no_grad():
        theirs.norm2.weight.add_(torch.rand(WIDTH))
        residual.norm.load_state_dict(theirs.norm2.state_dict())
    trunk = Tokens(x if first else theirs.norm1(x))
    found = residual(trunk, lambda t: theirs.linear2(torch.relu(theirs.linear1(t.values))), Context())
    torch.testing.assert_close(found.values, theirs(x), rtol=0, atol=1e-6)


def test_layer_scale():
    scale = LayerScale(WIDTH, start=1e-3)
    x = values()
    torch.testing.assert_close(scale(x, Tokens(x), Context()), x * 1e-3)
    with torch.no_grad():
        scale.factor.copy_(torch.arange(8.0))
    torch.testing.assert_close(scale(x, Tokens(x), Context()), x * torch.arange(8.0))


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    depth = StochasticDepth(WIDTH, rate=0.25).train()
    x = values(batch=4000, count=2)
    context = Context(generator=torch.Generator().manual_seed(0))
    found = depth(x, Tokens(x), context)
    kept = (found != 0).flatten(1).any(1)
    torch.testing.assert_close(found[kept], x[kept] / 0.75)
    assert torch.equal(found[~kept], torch.zeros_like(found[~kept]))
    share = kept.float().mean().item()
    assert abs(share - 0.75) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    ones = torch.ones_like(x)
    assert depth(ones, Tokens(ones), context).mean().item() == pytest.approx(1, abs=0.04)


def test_stochastic_depth_does_nothing_in_evaluation_or_at_rate_zero():
    x = values()
    assert torch.equal(StochasticDepth(WIDTH, rate=0.9).eval()(x, Tokens(x), Context()), x)
    assert torch.equal(StochasticDepth(WIDTH, rate=0.0).train()(x, Tokens(x), Context()), x)


def test_stochastic_depth_of_packed_sequences_is_that_of_the_batch():
    depth = StochasticDepth(WIDTH, rate=0.5).train()
    x, mask = values(batch=16), torch.arange(5) < torch.tensor([5, 3, 1, 4] * 4)[:, None]
    batch = Tokens(x, mask=mask)
    packed = pack(batch)
    alone = depth(x, batch, Context(generator=torch.Generator().manual_seed(7)))
    together = depth(packed.values, packed, Context(generator=torch.Generator().manual_seed(7)))
    torch.testing.assert_close(unpack(packed, together).values, alone * mask[..., None], rtol=0, atol=0)
    assert 0 < (together == 0).float().mean() < 1


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_rate_is_refused(rate):
    with pytest.raises(ef.DoesNotFit, match=r"at least 0 and below 1; given"):
        ef.spec(StochasticDepth, rate=rate).build(WIDTH)


def test_adaptive_norm_is_the_identity_at_the_start():
    residual, x = ef.spec(AdaptivePreNorm).build(WIDTH), values()
    found = residual(Tokens(x), layer, Context(condition=torch.randn(3, WIDTH)))
    assert torch.equal(found.values, x)


@pytest.mark.parametrize("per_token", [False, True])
def test_adaptive_norm_equals_its_equation(per_token):
    """Peebles and Xie: shift, scale and gate are linear in SiLU of the condition."""
    residual, x = made(AdaptivePreNorm, norm=NORM.but(affine=False), condition_width=3), values()
    condition = torch.randn(3, 5, 3) if per_token else torch.randn(3, 3)
    found = residual(Tokens(x), layer, Context(condition=condition)).values
    weight, bias = residual.modulation.weight, residual.modulation.bias
    c = condition if per_token else condition[:, None].expand(3, 5, 3)
    made_of = (c / (1 + torch.exp(-c))) @ weight.T + bias
    shift, scale, gate = made_of[..., :8], made_of[..., 8:16], made_of[..., 16:]
    normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(found, x + gate * f(normal * (1 + scale) + shift), rtol=0, atol=1e-5)


def test_adaptive_norm_reads_each_samples_own_condition():
    residual, x = made(AdaptivePreNorm), values()
    condition = torch.randn(3, WIDTH)
    found = residual(Tokens(x), layer, Context(condition=condition)).values
    for b in range(3):
        alone = residual(Tokens(x[b : b + 1]), layer, Context(condition=condition[b : b + 1])).values
        torch.testing.assert_close(found[b : b + 1], alone, rtol=0, atol=1e-6)


def test_adaptive_norm_says_what_it_lacks():
    with pytest.raises(ef.BadInput, match=r"needs a condition; pass Context\(condition="):
        made(AdaptivePreNorm)(Tokens(values()), layer, Context())


def test_the_start_of_a_model_leaves_the_adaptive_norm_at_zero():
    block = ef.spec(ef.backbones.Block, residual=ef.spec(AdaptivePreNorm))
    design = ef.design("vit", "tiny", image=16, patch=8, depth=1).swap("backbone.blocks.*", block)
    for residual in design.build(seed=0).backbone.blocks[0].residual:
        assert torch.equal(residual.modulation.weight, torch.zeros(576, 192))


def test_a_residual_for_each_layer_or_a_clear_error():
    with pytest.raises(ef.DoesNotFit, match="2 layers and 3 residuals"):
        ef.spec(ef.backbones.Block, residual=(ef.spec(PreNorm),) * 3).build(WIDTH)
