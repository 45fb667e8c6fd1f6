"""`i3d`: bodies that a sample passes by, and the gates that decide it; choices that learn."""

import pytest
import torch

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.choices import choose, straight_through
from everyformer.tokens import Tokens, pack
from support.parity import perturb
from support.parts import HEADS, WIDTH, close, tokens

SMALL = {"classes": 3, "mels": 12, "frames": 20, "width": 32, "hidden": 48, "depth": 2, "heads": 4}


class Told(torch.nn.Module):
    """A router that says what it is told."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, tokens, context=None):
        return self.weights[:, None].expand(-1, tokens.count, -1)


def layers(count=3):
    block = ef.spec(
        ef.backbones.Block,
        mixer=ef.spec(ef.mixers.Attention, heads=HEADS),
        feedforward=ef.spec(ef.feedforward.MLP, hidden=48),
    )
    halves = (block.but(feedforward=None), block.but(mixer=None), block)[:count]
    torch.manual_seed(0)
    return perturb(ef.spec(ef.backbones.Skipping, blocks=halves).build(WIDTH))


def test_all_kept_is_the_plain_stack_and_none_is_nothing():
    part, whole = layers(), tokens()
    part.router = Told(torch.ones(3, 3))
    plain = whole
    for block in part.blocks:
        plain = block(plain)
    assert torch.equal(part(whole).values, plain.values)
    part.router = Told(torch.zeros(3, 3))
    assert torch.equal(part(whole).values, whole.values)


@pytest.mark.parametrize("form", ["whole", "padded", "packed"])
def test_what_is_passed_by_is_what_is_multiplied_by_zero(form):
    part, whole = layers(), tokens()
    told = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0]])
    if form != "whole":
        whole.mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    part.router = Told(told)
    ran = []
    part.blocks[1].register_forward_hook(lambda m, given, out: ran.append(given[0].batch))
    found = part(whole)
    assert ran == [1]
    wanted = whole
    for i, block in enumerate(part.blocks):
        wanted = wanted.update(torch.where(told[:, i, None, None] == 1, block(wanted).values, wanted.values))
    real = slice(None) if whole.mask is None else whole.mask
    close(found.values[real], wanted.values[real])
    if form == "packed":
        flat = pack(whole)
        part.router = Told(told)
        part.router.forward = lambda t, context=None: t.spread(told)
        close(part(flat).values[0], wanted.values[whole.mask])


def test_a_choice_is_hard_forward_and_soft_backward():
    scores = torch.randn(50, 4, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    drawn = choose(scores, training=True, temperature=0.7)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (drawn.sum(-1) == 1).all()
    torch.manual_seed(3)
    noise = -torch.empty_like(scores).exponential_().log()
    soft = ((scores + noise) / 0.7).softmax(-1)
    weights = torch.randn(50, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad((drawn * weights).sum(), scores)
    (wanted,) = torch.autograd.grad((soft * weights).sum(), scores)
    close(found, wanted, 1e-12)
    assert torch.equal(choose(scores, training=False).argmax(-1), scores.argmax(-1))
    assert torch.equal(straight_through(drawn, soft), drawn)


def test_a_choice_is_drawn_by_its_chances():
    scores = torch.tensor([0.0, 1.0, -1.0])
    drawn = choose(scores.expand(20000, -1), training=True, generator=torch.Generator().manual_seed(0))
    close(drawn.mean(0), scores.softmax(-1), 0.02)


def test_the_utility_is_the_share_of_layers_that_run():
    part = layers().train()
    torch.manual_seed(1)
    with listening(part) as said:
        part(tokens())
    torch.manual_seed(1)
    kept = part.router(tokens())
    close(said[0], 0.01 * kept[:, 0].mean())


def test_a_higher_threshold_never_runs_more():
    part, counts = layers(), []
    for threshold in (0.0, 0.3, 0.5, 0.7, 1.0):
        part.router.threshold = threshold
        counts.append(part.router(tokens()).sum().item())
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3 * 6 * 3, 0)


def test_a_gate_sees_the_mean_of_the_real_tokens():
    gate, whole = layers().router, tokens()
    whole.mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    chance = gate.down(gate.up(whole.mean()).relu()).unflatten(-1, (3, 2)).softmax(-1)[..., 0]
    assert torch.equal(gate(whole)[:, 0] == 1, chance > 0.5)
    with pytest.raises(ef.DoesNotFit, match="not 'causal'"):
        ef.spec(ef.backbones.Decoder, blocks=(ef.spec(ef.backbones.Skipping),)).build(WIDTH)


@pytest.mark.parametrize("whole", [False, True])
def test_open_gates_are_the_plain_encoder(whole):
    model = perturb(ef.create("i3d", whole=whole, dropout=0.0, seed=0, **SMALL))
    gates = [each.router for each in model.backbone.blocks]
    assert [len(each.blocks) for each in model.backbone.blocks] == ([4] if whole else [2, 2])
    for gate in gates:
        gate.threshold = -1.0
    inputs = torch.randn(2, 20, 12)
    state = model.embedding(inputs)
    for block in (each for part in model.backbone.blocks for each in part.blocks):
        state = block(state)
    close(model(inputs), model.head(Tokens(model.backbone.norm(state.values))))
