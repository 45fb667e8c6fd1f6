"""Positions that are added to the scores of attention."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

import everyformer as ef
from everyformer.context import Context
from everyformer.positions import ALiBi, Buckets, Relative


def places(*numbers):
    return torch.tensor(numbers)[None, :, None]


def bias(part, query_places, key_places, query=None, scale=1.0):
    return part.bias(query, query_places, key_places, scale, Context())


@pytest.mark.parametrize("heads", [1, 4, 8, 6, 12])
def test_alibi_weighs_as_bloom_does_in_a_causal_place(heads):
    n = 9
    later = torch.ones(n, n, dtype=torch.bool).triu(1)
    scores = torch.randn(heads, n, n, generator=torch.Generator().manual_seed(0))
    theirs = build_alibi_tensor(torch.ones(1, n), heads, torch.float32)
    ours = bias(ALiBi(8 * heads, heads), places(*range(n)), places(*range(n)))[0]
    expected = (scores + theirs).masked_fill(later, -torch.inf).softmax(-1)
    found = (scores + ours).masked_fill(later, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_alibi_is_the_distance_times_the_slope():
    found = bias(ALiBi(8, 2), places(3, 4), places(0, 4, 9))
    for head, slope in enumerate((2**-4, 2**-8)):
        for i, query in enumerate((3, 4)):
            for j, key in enumerate((0, 4, 9)):
                assert found[0, head, i, j].item() == -slope * abs(query - key)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20), (16, 64)])
def test_buckets_are_those_of_t5(both_ways, buckets, farthest):
    distance = torch.arange(-300, 301)[None]
    theirs = T5Attention._relative_position_bucket(distance, both_ways, buckets, farthest)
    part = Buckets(4, 1, buckets=buckets, farthest=farthest, both_ways=both_ways)
    assert len(theirs.unique()) == (buckets if both_ways is False else buckets - 1)
    assert torch.equal(part.bucket(distance), theirs)


def test_buckets_look_up_a_bias_for_each_head():
    part = Buckets(8, 2, buckets=8, farthest=12)
    found = bias(part, places(5, 6), places(0, 5, 40))
    for i, query in enumerate((5, 6)):
        for j, key in enumerate((0, 5, 40)):
            row = int(part.bucket(torch.tensor([key - query])))
            assert torch.equal(found[0, :, i, j], part.table.weight[row])


def test_relative_is_the_double_loop_of_the_paper():
    part, scale, farthest = Relative(12, 3, farthest=2), 0.3, 2
    query = torch.randn(2, 3, 4, 4)
    query_places, key_places = places(0, 3, 4, 9), places(0, 1, 4, 8, 9)
    found = bias(part, query_places, key_places, query, scale)
    assert found.shape == (2, 3, 4, 5)
    for i in range(4):
        for j in range(5):
            distance = int(key_places[0, j, 0] - query_places[0, i, 0])
            vector = part.table.weight[max(-farthest, min(farthest, distance)) + farthest]
            torch.testing.assert_close(found[:, :, i, j], scale * (query[:, :, i] * vector).sum(-1))


def test_relative_in_attention_is_equation_4():
    mixer = ef.mixers.Attention(12, heads=3, positions=ef.spec(Relative, farthest=2))
    x = torch.randn(2, 7, 12)
    query, key, value = (mixer.split(part, 3) for part in mixer.qkv(x).split(12, -1))
    table, scores = mixer.positions.table.weight, torch.zeros(2, 3, 7, 7)
    for i in range(7):
        for j in range(7):
            vector = table[max(-2, min(2, j - i)) + 2]
            scores[:, :, i, j] = (query[:, :, i] * (key[:, :, j] + vector)).sum(-1) / 4**0.5
    expected = mixer.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(ef.Tokens(x)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", [ALiBi, Buckets, Relative])
def test_biases_see_distances_alone(part):
    made = ef.spec(part).build(12, 3)
    query = torch.randn(1, 3, 4, 4)
    near = bias(made, places(0, 1, 2, 3), places(0, 1, 2), query)
    far = bias(made, places(100, 101, 102, 103), places(100, 101, 102), query)
    assert torch.equal(near, far)
    assert near.std() > 0


def test_relative_needs_a_distance():
    with pytest.raises(ef.DoesNotFit, match="farthest is at least 1; given 0"):
        ef.spec(Relative, farthest=0).build(12, 3)
