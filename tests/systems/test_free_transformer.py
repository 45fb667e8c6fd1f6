"""`free-transformer`: its codes against the draws of x-transformers, sums written out, and the limits of what is injected."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.backbones.latent import draw_code
from everyformer.context import Cache, Context
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import WIDTH, close, spec_of, tokens

SMALL = {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 4, "heads": 4, "key_heads": 4, "bits": 3}


def part(**options):
    torch.manual_seed(0)
    return perturb(spec_of("backbones.FreeLatent", **options).build(WIDTH))


@pytest.mark.parametrize("free", [0.0, 0.5, 1.0])
def test_codes_and_their_price_equal_those_of_x_transformers(free):
    peer = pytest.importorskip("x_transformers.free_transformer", reason="a peer that only this needs")
    scores = torch.randn(4, 7, 3, requires_grad=True)
    theirs = peer.BinaryMapper(3, kl_loss_threshold=free * math.log(2))
    torch.manual_seed(5)
    wanted, price = theirs(scores, straight_through=True, calc_aux_loss=True)
    torch.manual_seed(5)
    found = draw_code(scores)
    close(found, wanted)
    made = part(free=free)
    close(made.above(scores).mean(), price)
    weights = torch.randn(4, 7, 8)
    (ours,) = torch.autograd.grad((found * weights).sum() + made.above(scores).mean(), scores)
    (given,) = torch.autograd.grad((wanted * weights).sum() + price, scores)
    close(ours, given)


def test_a_code_is_drawn_by_the_product_of_its_bits_and_learns_by_the_chances_of_all():
    scores = torch.tensor([0.7, -0.4, 1.5], dtype=torch.float64, requires_grad=True)
    chances = []
    for code in range(8):
        bits = [code >> i & 1 for i in range(3)]
        chances.append(torch.stack([p if b else 1 - p for p, b in zip(scores.sigmoid(), bits, strict=True)]).prod())
    chances = torch.stack(chances)
    assert chances.sum().item() == pytest.approx(1.0)
    drawn = draw_code(scores.expand(40000, -1), torch.Generator().manual_seed(0))
    close(drawn.mean(0), chances, 0.01)
    weights = torch.randn(8, dtype=torch.float64)
    (found,) = torch.autograd.grad((draw_code(scores) * weights).sum(), scores)
    (wanted,) = torch.autograd.grad((chances * weights).sum(), scores)
    close(found, wanted, 1e-9)


def test_the_price_is_the_divergence_from_even_chances():
    scores = torch.tensor([[[2.0, -1.0, 0.3]]])
    bits = torch.distributions.Bernoulli(logits=scores)
    wanted = torch.distributions.kl_divergence(bits, torch.distributions.Bernoulli(0.5)).sum()
    close(part(free=0.0).above(scores)[0, 0], wanted)
    assert part(free=0.0).above(torch.zeros(1, 1, 3)).abs().max() < 1e-6
    assert part(free=3.0).above(scores).max() == 0


def test_a_table_of_zeros_is_the_plain_decoder():
    design = ef.design("free-transformer", **SMALL)
    model = perturb(design.build(seed=0))
    middle = model.backbone.blocks[2]
    torch.nn.init.zeros_(middle.table.weight)
    plain = ef.design("llama", vocabulary=20, width=32, hidden=48, depth=4, heads=4, base=500000.0, eps=1e-5).build()
    state = model.state_dict()
    for name in [*state]:
        if ".blocks.2.block." in name:
            state[name.replace(".blocks.2.block.", ".blocks.2.")] = state.pop(name)
    query, key_value = (state.pop(f"backbone.blocks.2.mixer.{name}.weight") for name in ("query", "key_value"))
    state["backbone.blocks.2.mixer.qkv.weight"] = torch.cat((query, key_value))
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    close(model(ids(20, 2, 7)), plain.eval()(ids(20, 2, 7)))


def test_the_codes_reach_keys_and_values_alone():
    made, whole = part(), tokens()
    told = whole.update(whole.values + made.table(made.drawn(whole, Context())))
    around, after = made.block.residual
    attention = made.block.mixer
    query = attention.split(attention.query(around.norm(whole.values)), 4)
    key, value = attention.key_value(around.norm(told.values)).chunk(2, -1)
    weights = (query @ attention.split(key, 4).mT / 8**0.5).softmax(-1)
    mixed = whole.values + attention.output((weights @ attention.split(value, 4)).transpose(1, 2).flatten(2))
    wanted = mixed + made.block.feedforward(Tokens(after.norm(mixed)))
    close(made(whole).values, wanted)


def test_in_training_the_encoder_says_the_codes_from_all_tokens():
    made, whole = part(), tokens()
    scores = made.encode(whole, Context(mask=ef.masks.Causal()))
    changed = tokens()
    changed.values[:, -1] *= -1
    assert (made.encode(changed, Context()) - scores)[:, 0].abs().max() > 1e-4
    made.train()
    with listening(made) as said:
        torch.manual_seed(2)
        found = made(whole, Context()).values
    torch.manual_seed(2)
    code = draw_code(scores) @ made.table.weight
    pair = {"pair": whole.update(whole.values + code)}
    close(found, made.block(whole, Context(memory=pair)).values)
    close(said[0], made.above(scores).mean())


def test_in_use_it_is_causal_and_the_same_token_by_token():
    model = perturb(ef.create("free-transformer", seed=0, **SMALL))
    inputs, state = ids(20, 2, 7), Context(cache=Cache())
    whole = model(inputs)
    close(model(inputs[:, :4]), whole[:, :4])
    close(torch.cat([model.decode(inputs[:, i : i + 1], state) for i in range(7)], 1), whole)
    drawn = [model(inputs, context=Context(generator=torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert (drawn[0] - drawn[2]).abs().max() > 1e-4


def test_codes_by_place_have_even_chances():
    codes = part().drawn(Tokens(torch.zeros(1, 4000, WIDTH)), Context())
    assert codes[0].bincount(minlength=8).min() > 400


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="at least 1 bit"):
        part(bits=0)
    with pytest.raises(ValueError, match="given depth 1"):
        ef.design("free-transformer", depth=1)
