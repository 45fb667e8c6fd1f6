"""ECO-M2F: a pass left early is the shorter body, the derived choice at its limits, and a gate that tells samples apart."""

import pytest
import torch

import everyformer as ef
from everyformer.compression.exits import gated, leaving, measured
from everyformer.context import Context
from everyformer.tokens import Tokens
from support.agreement import close
from support.parts import spec_of
from support.systems import tiny


def parent(depth=3, least=1):
    """A small Mask2Former whose pixel decoder may be left early."""
    body = tiny("mask2former", pixel_depth=depth).swap(
        "head.pixels.body", lambda old: ef.spec(ef.backbones.ChosenDepth, **old.options, least=least)
    )
    torch.manual_seed(0)
    return body.build(seed=0).eval()


def brightness(model, batch):
    """A quality of which more blocks are worth more in bright pictures alone."""
    model(**batch)
    after = gated(model).leave
    return torch.where(batch["inputs"].mean((1, 2, 3)) > 0, float(after), 1.0)


def pictures(count=24):
    given = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    given[::2] += 1.0
    given[1::2] -= 1.0
    return {"inputs": given}


@torch.no_grad()
def test_a_pass_that_is_left_is_the_shorter_body():
    model = parent()
    given = pictures(2)
    for blocks in (1, 2, 3):
        shorter = tiny("mask2former", pixel_depth=blocks).build()
        kept = {name: each for name, each in model.state_dict().items() if name in shorter.state_dict()}
        shorter.load_state_dict(kept)
        with leaving(gated(model), blocks):
            close(model(**given), shorter.eval()(**given))
    close(model(**given), shorter(**given), "a gate that is not fitted runs all blocks")


@torch.no_grad()
def test_each_sample_runs_as_if_alone():
    """Some blocks for some of the samples, or all for all and the rest thrown away: the same."""
    body = spec_of("backbones.ChosenDepth").build(32).eval()
    body.gate.copy_(torch.randn(body.gate.shape))
    tokens = Tokens(torch.randn(8, 6, 32))
    depths = body.running(tokens, Context())
    assert 0 < (depths == 1).sum() < 8
    some, whole = (each(tokens, depths, Context()) for each in (body.some, body.whole))
    close(some, whole)
    close(torch.cat([body(Tokens(each[None])).values for each in tokens.values]), some)


def test_the_gate_learns_which_samples_are_worth_it():
    model, given = parent(), pictures()
    ef.compression.eco_m2f(model, [given], brightness, beta=0.1)
    body = gated(model)
    seen, _ = measured(model, [given], brightness)
    chosen = body.least + (seen @ body.gate.T + body.bias).argmax(1)
    assert torch.equal(chosen, torch.where(given["inputs"].mean((1, 2, 3)) > 0, 3, 1))
    runs = []
    hook = body.blocks[2].register_forward_hook(lambda module, inputs, output: runs.append(output.batch))
    model(**given)
    hook.remove()
    assert runs == [12]


@pytest.mark.parametrize(("beta", "depth"), [(0.0, 3), (100.0, 1)])
def test_the_limits_of_what_a_block_may_cost(beta, depth):
    model, given = parent(), {"inputs": pictures()["inputs"].abs()}
    ef.compression.eco_m2f(model, [given], brightness, beta=beta)
    assert (gated(model).running(*seen_by(model, given)) == depth).all()


def seen_by(model, given):
    """What the body is called with."""
    calls = []
    hook = gated(model).register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    model(**given)
    hook.remove()
    return calls[0]


def test_training_ends_a_pass_where_it_is_drawn():
    body = ef.backbones.ChosenDepth(16, blocks=(ef.spec(ef.backbones.Block),) * 3, least=2, chances=(1.0, 3.0)).train()
    generator = torch.Generator().manual_seed(0)
    drawn = [int(body.running(Tokens(torch.zeros(1, 1, 16)), Context(generator=generator))[0]) for _ in range(400)]
    assert set(drawn) == {2, 3}
    assert abs(drawn.count(3) / 400 - 0.75) < 0.07


def test_what_cannot_be_is_told():
    with pytest.raises(ef.DoesNotFit, match="least is 1 to 2"):
        spec_of("backbones.ChosenDepth", least=3).build(32)
    with pytest.raises(ef.DoesNotFit, match="a share for each of 2 exits"):
        spec_of("backbones.ChosenDepth", chances=(1.0,)).build(32)
    with pytest.raises(ef.DoesNotFit, match="one backbones.ChosenDepth in the model; it has 0"):
        ef.compression.eco_m2f(tiny("mask2former").build(), [], brightness)
