"""Steps and slots against their equations."""

import torch

import everyformer as ef
from everyformer.context import Context
from everyformer.masks import Causal
from support.parts import HEADS, close, make, tokens

WIDTH, K = 32, 8


def products(mixer, x):
    """Scaled scores and values of every head, written out."""
    query, key, value = (part.unflatten(-1, (HEADS, K)).transpose(1, 2) for part in mixer.qkv(x).split(mixer.sizes, -1))
    return query @ key.mT / K**0.5, value


def joined(mixer, weights, value):
    return mixer.output((weights @ value).transpose(1, 2).flatten(2))


def test_talking_heads():
    mixer = make("mixers.Attention", heads=HEADS, steps=(ef.spec(ef.scores.MixScores), ef.spec(ef.scores.MixWeights)))
    x = tokens().values
    scores, value = products(mixer, x)
    before, after = mixer.steps[0].mix.weight, mixer.steps[1].mix.weight
    hidden = ~torch.ones(6, 6, dtype=torch.bool).tril()
    mixed = torch.einsum("gh,bhnm->bgnm", before, scores).masked_fill(hidden, float("-inf"))
    weights = torch.einsum("gh,bhnm->bgnm", after, mixed.softmax(-1))
    close(mixer(ef.Tokens(x), Context(mask=Causal())), joined(mixer, weights, value))


def test_scores_are_handed_from_layer_to_layer():
    layers = [
        make("mixers.Attention", heads=HEADS, steps=(ef.spec(ef.scores.HandedOn),), seed=seed) for seed in range(3)
    ]
    shared, total = Context(), 0
    for layer in layers:
        x = tokens(seed=3).values
        scores, value = products(layer, x)
        total = total + scores
        close(layer(ef.Tokens(x), shared), joined(layer, total.softmax(-1), value))


def test_a_chain_of_another_name_starts_anew():
    first, other = (
        make("mixers.Attention", heads=HEADS, steps=(ef.spec(ef.scores.HandedOn, name=name),))
        for name in ("one", "two")
    )
    shared = Context()
    first(tokens(), shared)
    close(other(tokens(), shared), other(tokens(), Context()))


def test_a_cap_holds_scores_and_leaves_small_ones():
    step = ef.spec(ef.scores.SoftCap, cap=5.0).build(HEADS, K)
    scores = torch.tensor([[[[1e-3, 3.0, 100.0]]]])
    close(step.scores(scores, None), 5 * torch.tanh(scores / 5))


def test_scores_grow_with_the_log_of_what_is_seen():
    mixer = make("mixers.Attention", heads=HEADS, steps=(ef.spec(ef.scores.LengthScale),))
    x = tokens().values
    scores, value = products(mixer, x)
    seen = torch.arange(1, 7).log()[:, None]
    hidden = ~torch.ones(6, 6, dtype=torch.bool).tril()
    weights = (scores * mixer.steps[0].factor * seen).masked_fill(hidden, float("-inf")).softmax(-1)
    close(mixer(ef.Tokens(x), Context(mask=Causal())), joined(mixer, weights, value))


def test_persistent_keys_and_values_stand_beside_those_of_the_tokens():
    mixer = make("mixers.Attention", heads=HEADS, slots=ef.spec(ef.scores.Persistent, count=3), key_heads=2)
    x = tokens().values
    query, key, value = (part.unflatten(-1, (-1, K)).transpose(1, 2) for part in mixer.qkv(x).split(mixer.sizes, -1))
    more = (mixer.slots.key.expand(3, -1, -1, -1), mixer.slots.value.expand(3, -1, -1, -1))
    key, value = (torch.cat(pair, 2).repeat_interleave(2, 1) for pair in ((more[0], key), (more[1], value)))
    scores = query @ key.mT / K**0.5
    hidden = torch.cat((torch.zeros(6, 3).bool(), ~torch.ones(6, 6, dtype=torch.bool).tril()), 1)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    close(mixer(ef.Tokens(x), Context(mask=Causal())), joined(mixer, weights, value))
