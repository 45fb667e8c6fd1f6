"""Rotary positions and how they are stretched for longer contexts."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

import everyformer as ef
from everyformer.context import Context
from everyformer.positions import Rotary, RotaryGrid

HEAD, HEADS, LENGTH = 32, 2, 64


def rope(kind, **options):
    parameters = {"rope_type": kind, "rope_theta": 10000.0, **options}
    return LlamaConfig(
        hidden_size=HEAD * HEADS, num_attention_heads=HEADS, max_position_embeddings=LENGTH, rope_parameters=parameters
    )


def test_rotary_turns_each_pair_by_its_angle():
    part = Rotary(HEAD * HEADS, HEADS, base=500.0)
    x, places = torch.randn(2, HEADS, 5, HEAD), torch.tensor([0, 1, 2, 7, 50])[None, :, None]
    found = part.rotate(x, places, Context())
    for n, place in enumerate((0, 1, 2, 7, 50)):
        for i in range(HEAD // 2):
            pair = torch.complex(x[:, :, n, i], x[:, :, n, i + HEAD // 2])
            angle = torch.tensor(place * 500.0 ** (-2 * i / HEAD))
            turned = pair * torch.complex(angle.cos(), angle.sin())
            torch.testing.assert_close(found[:, :, n, i], turned.real, atol=1e-5, rtol=0)
            torch.testing.assert_close(found[:, :, n, i + HEAD // 2], turned.imag, atol=1e-5, rtol=0)


def test_a_fraction_leaves_the_other_channels_alone():
    part = Rotary(HEAD * HEADS, HEADS, fraction=0.25)
    x, places = torch.randn(1, HEADS, 5, HEAD), torch.arange(5)[None, :, None]
    found = part.rotate(x, places, Context())
    small = Rotary(HEAD // 4).rotate(x[..., : HEAD // 4], places, Context())
    assert torch.equal(found[..., HEAD // 4 :], x[..., HEAD // 4 :])
    assert torch.equal(found[..., : HEAD // 4], small)
    assert not torch.equal(small[:, :, 1:], x[:, :, 1:, : HEAD // 4])


CASES = {
    "default": (rope("default"), {}),
    "linear": (rope("linear", factor=4.0), {"linear": 4.0}),
    "yarn": (rope("yarn", factor=4.0, original_max_position_embeddings=LENGTH), {"yarn": (4.0, LENGTH)}),
    "yarn, long": (rope("yarn", factor=16.0, original_max_position_embeddings=4096), {"yarn": (16.0, 4096)}),
    "llama3": (
        rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=LENGTH),
        {"llama3": (8.0, 1.0, 4.0, LENGTH)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_scaling_is_that_of_hugging_face(case):
    config, options = CASES[case]
    places = torch.arange(3 * LENGTH)[None]
    x = torch.randn(1, HEADS, 3 * LENGTH, HEAD)
    cos, sin = LlamaRotaryEmbedding(config)(x, places)
    expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
    found = Rotary(HEAD * HEADS, HEADS, **options).rotate(x, places[..., None], Context())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    if case != "default":
        plain = Rotary(HEAD * HEADS, HEADS).rotate(x, places[..., None], Context())
        assert (plain - expected).abs().max() > 0.1


def test_ntk_stretches_the_base_as_hugging_face_does():
    config, seen = rope("dynamic", factor=2.0, original_max_position_embeddings=LENGTH), 3 * LENGTH
    rates, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, seq_len=seen)
    part = Rotary(HEAD * HEADS, HEADS, ntk=2.0 * seen / LENGTH - 1.0)
    torch.testing.assert_close(torch.tensor(part.rates), rates, atol=0, rtol=1e-5)


def test_a_grid_turns_each_pair_by_its_own_axis():
    part = RotaryGrid(24, 2, base=100.0)
    places = torch.tensor([[0, 0], [1, 0], [0, 1], [3, 5]])[None]
    x = torch.randn(1, 2, 4, 12)
    found = part.rotate(x, places, Context())
    for n in range(4):
        for i in range(6):
            axis, j = divmod(i, 3)
            angle = int(places[0, n, axis]) * 100.0 ** (-j / 3)
            left, right = x[0, :, n, i], x[0, :, n, i + 6]
            turned = left * math.cos(angle) - right * math.sin(angle)
            torch.testing.assert_close(found[0, :, n, i], turned, atol=1e-5, rtol=0)
            turned = left * math.sin(angle) + right * math.cos(angle)
            torch.testing.assert_close(found[0, :, n, i + 6], turned, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("part", "axes"), [(Rotary, 1), (RotaryGrid, 2)])
def test_scores_see_distances_alone(part, axes):
    made, query, key = part(24, 2), torch.randn(1, 2, 6, 12), torch.randn(1, 2, 6, 12)
    places = torch.randint(0, 9, (1, 6, axes))

    def scores(shift):
        moved = places + shift
        return made.rotate(query, moved, Context()) @ made.rotate(key, moved, Context()).mT

    torch.testing.assert_close(scores(0), scores(torch.arange(11, 11 + axes)), atol=1e-4, rtol=0)


def test_bad_options_are_refused():
    with pytest.raises(ef.DoesNotFit, match="one of linear, ntk, yarn and llama3"):
        ef.spec(Rotary, linear=2.0, ntk=2.0).build(8, 1)
    with pytest.raises(ef.DoesNotFit, match="leave no pair"):
        ef.spec(Rotary, fraction=0.1).build(8, 1)
    with pytest.raises(ef.DoesNotFit, match="no pair of channels for each of 2 axes"):
        ef.spec(RotaryGrid).build(6, 2)
