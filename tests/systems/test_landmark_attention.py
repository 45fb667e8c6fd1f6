"""`landmark-attention` against the grouped softmax, a column at a time, and the limits of the method."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.masks import Causal
from everyformer.mixers import LandmarkAttention, landmarks
from support.agreement import perturb
from support.parity import ids
from support.parts import close, tokens

BLOCK = 3


def marks(count, block=BLOCK):
    return (torch.arange(count) % (block + 1) == block).expand(2, -1)


def mixer(**options):
    torch.manual_seed(0)
    return LandmarkAttention(16, heads=2, **options).eval()


def weights(mixer, whole):
    seen = []
    handle = mixer.taps.weights.register_forward_hook(lambda module, given, out: seen.append(out))
    answer = mixer(whole, Context(mask=Causal()))
    handle.remove()
    return answer, seen[0]


def literal(scores, marked, keep=None):
    """Equation 2: for each query the columns fall into groups, each with a softmax of its own."""
    count = len(scores)
    block = [int(marked[:j].sum()) for j in range(count)]
    closing = {block[j]: j for j in range(count) if marked[j]}
    found = torch.zeros(count, count)
    for i in range(count):
        earlier = [closing[g] for g in range(block[i])]
        if keep is not None:
            earlier = sorted(earlier, key=lambda j: -scores[i, j])[:keep]
        direct = [j for j in range(i + 1) if block[j] == block[i] and not marked[j]] + earlier
        gate = dict(zip(direct, torch.stack([scores[i, j] for j in direct]).softmax(0), strict=True))
        for j in direct:
            if not marked[j]:
                found[i, j] = gate[j]
                continue
            members = [m for m in range(count) if block[m] == block[j] and not marked[m]]
            shares = torch.stack([scores[i, m] for m in members]).softmax(0)
            for m, share in zip(members, shares, strict=True):
                found[i, m] = gate[j] * share
    return found


@pytest.mark.parametrize("keep", [None, 1, 2])
@pytest.mark.parametrize("count", [4, 11, 14])
def test_weights_equal_the_grouped_softmax(count, keep):
    made = mixer(keep=keep)
    whole = tokens(count, 2, width=16).replace(marked=marks(count))
    query, key, value = made.operands(made.qkv(whole.values))
    answer, found = weights(made, whole)
    scores = query @ key.mT * made.scale
    wanted = torch.stack([torch.stack([literal(s, whole.marked[0], keep) for s in row]) for row in scores.detach()])
    close(found, wanted)
    close(answer, made.output((wanted @ value).transpose(1, 2).flatten(2)))
    close(found.sum(-1), torch.ones(2, 2, count))
    assert not found[..., whole.marked[0]].any()


@pytest.mark.parametrize("keep", [None, 2])
def test_of_a_long_text_a_few_queries_are_at_work_at_a_time(keep, monkeypatch):
    """The same answers and gradients; no more scores at once than two queries have."""
    made, formed = mixer(keep=keep, positions=ef.spec(ef.positions.Rotary)), []
    whole = tokens(14, 2, width=16).replace(marked=marks(14))
    wanted = made(whole, Context(mask=Causal()))
    gradient = torch.autograd.grad(wanted.square().sum(), made.qkv.weight)[0]
    monkeypatch.setattr(landmarks, "MOST", 2 * 2 * 2 * 14)
    inner = made._weights
    monkeypatch.setattr(made, "_weights", lambda scores, *given: formed.append(scores.numel()) or inner(scores, *given))
    with torch.no_grad():
        close(made(whole, Context(mask=Causal())), wanted)
    assert len(formed) == 7
    assert max(formed) == landmarks.MOST
    again = made(whole, Context(mask=Causal()))
    close(again, wanted)
    close(torch.autograd.grad(again.square().sum(), made.qkv.weight)[0], gradient)


def test_keeping_all_blocks_is_the_whole_attention():
    """With places too: as long as nothing is further back than what is kept, none is moved."""
    rotary = ef.spec(ef.positions.Rotary)
    whole = tokens(15, 2, width=16).replace(marked=marks(15))
    close(
        mixer(positions=rotary, keep=4)(whole, Context(mask=Causal())),
        mixer(positions=rotary)(whole, Context(mask=Causal())),
    )
    assert (mixer(positions=rotary, keep=1)(whole, Context(mask=Causal())) - mixer(positions=rotary)(whole, Context(mask=Causal()))).abs().max() > 1e-3  # fmt: skip


def test_a_landmark_that_scores_what_its_block_does_changes_nothing():
    """Score = log-sum-exp of the block: the weights are those of softmax over the tokens."""
    count = 11
    scores, marked = torch.randn(count, count), marks(count)[0]
    for j in torch.where(marked)[0].tolist():
        scores[:, j] = scores[:, j - BLOCK : j].logsumexp(1)
    plain = scores.masked_fill(torch.ones(count, count).triu(1).bool() | marked, -math.inf).softmax(-1)
    made = mixer()
    made.taps.scores.register_forward_hook(lambda module, given, out: scores.expand_as(out))
    _, found = weights(made, tokens(count, 2, width=16).replace(marked=marks(count)))
    close(found, plain.expand_as(found))


def test_one_block_is_causal_attention_and_landmarks_are_gone_afterwards():
    sizes = {"vocabulary": 11, "width": 16, "hidden": 24, "depth": 2, "heads": 2}
    model = perturb(ef.create("landmark-attention", block=50, **sizes), std=0.2)
    plain = ef.create("llama", **sizes).eval()
    plain.load_state_dict({name.replace("backbone.body", "backbone"): each for name, each in model.state_dict().items() if name != "backbone.landmark"})  # fmt: skip
    inputs = ids(11, 2, 20)
    close(model(inputs), plain(inputs))
    short = perturb(ef.create("landmark-attention", block=4, **sizes), std=0.2)
    assert short(inputs).shape == (2, 20, 11)
    changed = inputs.clone()
    changed[:, 13:] = (changed[:, 13:] + 1) % 11
    close(short(changed)[:, :13], short(inputs)[:, :13], 1e-6)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, :7] = False
    close(short(inputs, mask=mask)[1, 7:], short(inputs[1:, 7:])[0])


def test_what_it_cannot_do_is_said():
    with pytest.raises(ef.BadInput, match="generate without a cache"):
        mixer()(tokens(4, width=16), Context(cache=Cache()))
    with pytest.raises(ValueError, match="keep is at least 1"):
        mixer(keep=0)
    with pytest.raises(ValueError, match="at least 1 token"):
        ef.backbones.Landmarks(16, block=0)
