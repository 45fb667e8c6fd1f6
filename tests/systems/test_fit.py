"""`fit`: groups, latents, and the limits of both; nothing is heard too early."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import flops, on_meta
from everyformer.masks import Causal, Window
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import WIDTH, close, spec_of, tokens

PICTURES = {
    "image": 16,
    "patch": 4,
    "window": 2,
    "width": 32,
    "heads": 4,
    "latents": 2,
    "rounds": 1,
    "local": 1,
    "outer": 1,
}
TEXT = {**PICTURES, "vocabulary": 20, "group": 3, "length": 16, "rounds": 2}


def body(**options):
    torch.manual_seed(0)
    return perturb(
        ef.spec(ef.backbones.Interleaved, rounds=(spec_of("backbones.Round"),) * 2, **{"latents": 2, **options}).build(
            WIDTH
        )
    )


def silent(part):
    """Without what tokens hear of latents."""
    for each in part.rounds:
        for layer in (each.write.cross[0].output, each.write.feedforward.down):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return part


def reach(part, whole, context=None):
    """Which token's answer depends on which token (N, N)."""

    def answer(values):
        return part(whole.update(values), context or Context()).values.sum((0, 3) if values.dim() == 4 else (0, 2))

    found = torch.autograd.functional.jacobian(answer, whole.values)
    return found.abs().sum((1, 3)) > 1e-9


def test_one_group_that_hears_no_latent_is_the_plain_stack():
    part = silent(body(group=6))
    plain = tokens()
    for each in part.rounds:
        for block in each.local:
            plain = block(plain)
    close(part(tokens()).values, plain.values)


def test_groups_meet_through_latents_alone():
    own = torch.arange(6) // 2
    apart = own[:, None] == own
    assert torch.equal(reach(silent(body(group=2)), tokens()), apart)
    assert reach(body(group=2), tokens()).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_in_a_causal_place_no_later_token_is_heard(size):
    part, causal = body(group=size), torch.ones(6, 6).tril().bool()
    seen = reach(part, tokens(), Context(mask=Causal()))
    assert not (seen & ~causal).any()
    assert torch.equal(seen, causal)


def test_padding_on_either_side_changes_nothing():
    part = body(group=2)
    for context in (Context(), Context(mask=Causal())):
        for left in (0, 3):
            values, mask = torch.randn(2, 9, WIDTH), torch.zeros(2, 9, dtype=torch.bool)
            for row, length in enumerate((6, 3)):
                mask[row, left : left + length] = True
            found = part(Tokens(values, mask=mask), context.replace(lowered={})).values
            for row, length in enumerate((6, 3)):
                piece = values[row : row + 1, left : left + length]
                close(found[row, left : left + length], part(Tokens(piece), context.replace(lowered={})).values[0])


def test_a_window_is_a_group():
    part = body(group=(2, 2))
    whole = tokens(grid=True)
    order = torch.arange(16).view(2, 2, 2, 2).permute(0, 2, 1, 3).flatten()
    found = part(whole).values
    part.group = 4
    close(found[:, order], part(Tokens(whole.values[:, order])).values)
    own = torch.zeros(16, dtype=torch.long).scatter(0, order, torch.arange(16) // 4)
    part.group = (2, 2)
    assert torch.equal(reach(silent(part), whole), own[:, None] == own)


def test_it_decodes_and_classifies():
    model = perturb(ef.create("fit", seed=0, **TEXT))
    inputs = ids(20, 2, 8)
    whole = model(inputs)
    for count in (2, 3, 5):
        close(model(inputs[:, :count]), whole[:, :count])
    pictures = perturb(ef.create("fit", classes=3, seed=0, **PICTURES))
    assert pictures(torch.randn(2, 3, 16, 16)).shape == (2, 3)


def attention_alone(length, group):
    """FLOPs of all attention, its linear maps left out."""
    options = {**TEXT, "length": length, "group": group, "latents": 1, "rounds": 1}
    model = on_meta(ef.design("fit", **options))
    work = flops(model, {"inputs": torch.zeros(1, length, dtype=torch.long)})
    inner = [path for path in work if path.endswith((".mixer", ".cross.0"))]
    maps = ("qkv", "query", "key_value", "output")
    return sum(work[path] - sum(work.get(f"{path}.{name}", 0) for name in maps) for path in inner)


def test_balanced_groups_make_the_work_of_the_power_four_thirds():
    growth = attention_alone(4096, 16) / attention_alone(512, 8)
    assert math.log(growth) / math.log(8) == pytest.approx(4 / 3, abs=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda: body(group=0), "at least 1 token"), (lambda: body(group=2, latents=0), "1 latent"),
     (lambda: body(group=2)(tokens(), Context(mask=Window(1))), "no mask or a causal one"),
     (lambda: body(group=(3, 2))(tokens(grid=True)), r"does not fall into windows of \(3, 2\)")],
    ids=["group", "latents", "mask", "window"],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises((ef.EveryformerError, ValueError), match=message):
        call()
