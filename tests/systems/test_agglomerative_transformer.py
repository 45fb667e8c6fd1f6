"""AGER: its grouping against GroupViT's in transformers, its head and its loss written out."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.boxes import corners, overlaps
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.objectives import Interactions
from everyformer.tokens import Tokens
from support.agreement import close, perturb
from support.systems import model_of, tiny

WIDTH = 8
NAMES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "proj"}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grouping(body=None, groups=3):
    torch.manual_seed(0)
    return perturb(ef.reduction.Grouping(WIDTH, body=body or ef.spec(ef.backbones.Encoder, blocks=()), groups=groups))


class Saying(torch.nn.Module):
    """A model that says what is given."""

    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def forward(self, inputs, context):
        context.notes.update(self.notes)


def test_groups_and_gradients_are_those_of_groupvit():
    """Beside the assignment of transformers, whose answer is added to the centres."""
    groupvit = pytest.importorskip("transformers.models.groupvit.modeling_groupvit")
    theirs = groupvit.GroupViTAssignAttention(groupvit.GroupViTVisionConfig(hidden_size=WIDTH)).eval()
    ours = grouping()
    for name, other in NAMES.items():
        getattr(theirs, other).load_state_dict(getattr(ours, name).state_dict())
    values, cotangent = draw(2, 7, WIDTH), draw(2, 3, WIDTH, seed=1)
    centres = ours.centres.weight.detach().expand(2, -1, -1)
    update, soft = theirs(centres, values)
    found = ours(Tokens(values))
    close(found.values, centres + update)
    assert torch.equal(found.origin, soft.argmax(1))
    (found.values * cotangent).sum().backward()
    (update * cotangent).sum().backward()
    for name in ("value", "output"):
        close(getattr(ours, name).weight.grad, getattr(theirs, NAMES[name]).weight.grad, name)
        close(getattr(ours, name).bias.grad, getattr(theirs, NAMES[name]).bias.grad, name)


def test_the_choice_learns_in_training():
    """What is drawn is one centre for each token, and its gradient is that of the shares that it was drawn by."""
    part, generator = grouping().train(), torch.Generator()
    values, centres = draw(2, 7, WIDTH), part.centres.weight.expand(2, -1, -1)
    drawn = part.shares(centres, values, Context(generator=generator.manual_seed(0)))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn.sum(1), torch.ones(2, 7))
    noise = -torch.empty(2, 7, 3).exponential_(generator=generator.manual_seed(0)).log()
    scores = torch.einsum("bgd,bnd->bng", part.query(centres), part.key(values)) / WIDTH**0.5
    weights = draw(2, 3, 7)
    wanted = torch.autograd.grad(((scores + noise).softmax(-1).mT * weights).sum(), part.key.weight)[0]
    close(torch.autograd.grad((drawn * weights).sum(), part.key.weight)[0], wanted)


def test_tokens_in_another_order_go_to_the_same_centres():
    block = ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=2))
    part, values, order = grouping(ef.spec(ef.backbones.Encoder, blocks=(block,))), draw(2, 7, WIDTH), torch.randperm(7)
    one, other = part(Tokens(values)), part(Tokens(values[:, order]))
    close(other.values, one.values)
    assert torch.equal(other.origin, one.origin[:, order])


def test_queries_point_at_things_that_tokens_say():
    """The head written out, token by token and query by query."""
    model = perturb(model_of(tiny("agglomerative-transformer")))
    head, values, notes = model.head, draw(1, 4, 16), {}
    answer = head(Tokens(values), Context(notes=notes))[0]
    known, things = [], []
    for token in values[0]:
        box = head.box(token).sigmoid()
        word = head.naming(token)
        likeness = torch.stack([F.cosine_similarity(word, name, 0) for name in head.names]) / 0.07
        close(notes["names"][0, len(known)], likeness, "names")
        word = sum(share * name for share, name in zip(likeness.softmax(0), head.names, strict=True))
        gates = head.gate(token).sigmoid()
        known.append(token + gates[0] * head.name_cue(word) + gates[1] * head.box_cue(box))
        things.append(torch.cat((head.classify(token), box)))
    memory = {"cells": Tokens(torch.stack(known)[None])}
    asked = Tokens(torch.zeros(1, 5, 16), positions=head.queries[None])
    for query, said in zip(head.norm(head.body(asked, Context(memory=memory)).values)[0], answer, strict=True):
        parts = [head.relate(query)]
        for pointer in (head.subject(query), head.object(query)):
            shares = torch.stack([pointer @ head.key(each) / 4 for each in known]).softmax(0)
            parts.append(sum(share * thing for share, thing in zip(shares, things, strict=True)))
        close(said, torch.cat(parts))


def test_the_loss_is_that_of_the_best_matching():
    """Two things and a third that is none, one of them related to itself and to the other: every matching is tried."""
    notes = {
        "things": torch.cat((draw(1, 4, 3), draw(1, 4, 4, seed=1).sigmoid()), -1), "names": draw(1, 4, 2, seed=2),
        "relations": draw(2, 1, 3, 3, seed=3), "subjects": draw(2, 1, 3, 4, seed=4), "objects": draw(2, 1, 3, 4, seed=5),
    }  # fmt: skip
    labels = torch.full((1, 3, 8), -100.0)
    labels[..., 1:5] = draw(1, 3, 4, seed=6).sigmoid()
    labels[0, :2, 0] = torch.tensor([1.0, 0.0])
    labels[0, 0, 6], labels[0, 1, 6] = 1, 0

    logits, boxes = notes["things"][0].split((3, 4), -1)
    kinds, places = labels[0, :2, 0].long(), labels[0, :2, 1:5]

    def apart(token, thing):
        share, beyond = overlaps(corners(boxes[token]), corners(places[thing]))
        return 5 * (boxes[token] - places[thing]).abs().sum() + 2 * (1 - share + beyond)

    tokens = min(
        permutations(range(4), 2),
        key=lambda pick: sum(apart(k, i) - logits[k].softmax(0)[kinds[i]] for i, k in enumerate(pick)),
    )
    classes, weights = torch.full((4,), 2), torch.full((4,), 0.1)
    for thing, token in enumerate(tokens):
        classes[token], weights[token] = kinds[thing], 1.0
    wanted = (weights * F.cross_entropy(logits, classes, reduction="none")).sum() / weights.sum()
    wanted = wanted + sum(apart(k, i) for i, k in enumerate(tokens)) / 2
    wanted = wanted + 0.5 * F.cross_entropy(notes["names"][0, list(tokens)], kinds)
    pairs = [(tokens[0], tokens[1], 1), (tokens[1], tokens[1], 0)]
    for layer in range(2):
        said = [notes[name][layer, 0].log_softmax(-1) for name in ("subjects", "objects", "relations")]

        def likely(query, pair, said=said):
            return sum(each[query, at].exp() for each, at in zip(said, pair, strict=True))

        best = max(permutations(range(3), 2), key=lambda pick: sum(map(likely, pick, pairs)))
        classes, weights = torch.full((3,), 2), torch.full((3,), 0.1)
        for query, (subject, thing, name) in zip(best, pairs, strict=True):
            classes[query], weights[query] = name, 1.0
            wanted = wanted - 2 * (said[0][query, subject] + said[1][query, thing]) / 2
        wanted = wanted + (weights * F.nll_loss(said[2], classes, reduction="none")).sum() / weights.sum()
    found = Interactions(guidance=0.5, pointing=2.0)(Saying(notes), {"inputs": None, "labels": labels})
    close(found.total, wanted)
    assert found.count == 1


def test_the_size_is_that_of_its_parts():
    """All but encoder and head is DETR's; a stage of groups has three blocks, its centres and four maps."""
    d, model = 256, on_meta(ef.design("agglomerative-transformer"))
    maps, block = 4 * (d * d + d), 4 * (d * d + d) + 2 * d * 2048 + 2048 + d + 4 * d
    enter = model.backbone.stages[-1].enter
    encoder = parameters(model.backbone.stages[-1]) - parameters(enter)
    assert encoder == 2 * (3 * block + maps) + (64 + 16) * d
    things = 81 * d + 81 + 2 * (d * d + d) + 4 * d + 4
    names, boxes = d * 512 + 512 + 512 * d + d, 4 * d + d + d * d + d
    related = 2 * d + 2 + 118 * d + 118 + 3 * (d * d + d)
    rest = parameters(model.head.body) + parameters(model.head.norm) + 100 * d
    assert parameters(model.head) == rest + things + names + boxes + related


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="one group at least"):
        tiny("agglomerative-transformer", groups=(0,)).build()
    batch = {"inputs": torch.zeros(1, 3, 32, 32), "labels": torch.zeros(1, 2, 5)}
    with pytest.raises(ef.BadInput, match=r"5 \+ T"):
        Interactions()(model_of(tiny("agglomerative-transformer")), batch)
    with pytest.raises(ef.DoesNotFit, match=r"heads\.Interactions"):
        Interactions()(
            model_of(tiny("detr")), {"inputs": torch.zeros(1, 3, 32, 32), "labels": torch.full((1, 2, 7), -100.0)}
        )
