"""`ftp`: all windows at once and one by one, what each of them can hear, and the loss written out."""

import pytest
import torch

import everyformer as ef
from everyformer.context import Context
from everyformer.masks import Causal
from everyformer.objectives import FutureTokens, NextToken
from everyformer.objectives.base import IGNORED
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import close

SMALL = {
    "vocabulary": 20, "length": 16, "width": 32, "depth": 2, "heads": 4, "decoder_depth": 1, "ahead": 3, "pseudo": 2,
    "narrow": 16,
}  # fmt: skip


def model(**changes):
    return perturb(ef.create("ftp", seed=0, **{**SMALL, **changes}))


def test_all_windows_at_once_are_each_by_itself():
    made, values, known = model(), torch.randn(2, 5, 32), ids(20, 2, 10).view(2, 5, 2)
    head, found = made.head, made.head.say(values, known)
    block = head.decoder.blocks[0]
    for b in range(2):
        for n in range(5):
            memory = Tokens(head.expand(values[b, n]).view(1, 2, 16))
            states = torch.cat((head.first[None], head.table(known[b, n]))) + head.places.weight
            said = block(Tokens(states[None]), Context(mask=Causal(), memory={"encoder": memory}))
            close(found[b, n], head.project(head.decoder.norm(said.values))[0])


def test_a_window_hears_its_vector_and_the_tokens_between_alone():
    made, labels = model(), ids(20, 1, 8)
    states = made.features(ids(20, 1, 8, seed=1)).values.detach().requires_grad_()
    logits = made.head.say(states, made.head.future(labels, 0)[..., :-1])
    (found,) = torch.autograd.grad(logits[0, 3].square().sum(), states)
    assert found[0, 3].abs().max() > 0
    assert found[0, [0, 1, 2, 4, 5, 6, 7]].abs().max() == 0
    other = labels.clone()
    other[0, 5] = (other[0, 5] + 1) % 20
    after = made.head.say(states, made.head.future(other, 0)[..., :-1])
    assert torch.equal(after[0, 3], logits[0, 3])
    assert torch.equal(after[0, 4, :2], logits[0, 4, :2])
    assert (after[0, 4, 2] - logits[0, 4, 2]).abs().max() > 1e-4


def test_the_loss_is_its_sum_written_out():
    made, labels = model(), ids(20, 2, 6, seed=2)
    labels[1, 4:] = IGNORED
    batch = {"inputs": ids(20, 2, 6), "labels": labels}
    states = made.features(batch["inputs"]).values
    total = 0.0
    for b in range(2):
        for n in range(6):
            window = [int(each) for each in labels[b, n : n + 3]]
            known = torch.tensor([max(each, 0) for each in [*window, 0, 0, 0][:2]])
            said = made.head.say(states[b : b + 1, n : n + 1], known[None, None])[0, 0].log_softmax(-1)
            total -= sum(0.7**i * said[i, each] for i, each in enumerate(window) if each != IGNORED)
    loss = FutureTokens(decay=0.7)(made, batch)
    close(loss.total, total, 1e-4)
    assert loss.count == 10


def test_one_token_ahead_is_next_token_prediction():
    made, batch = model(ahead=1), {"inputs": ids(20, 2, 6), "labels": ids(20, 2, 6, seed=2)}
    close(FutureTokens()(made, batch).total, NextToken()(made, batch).total)


def test_what_cannot_be_is_refused():
    batch = {"inputs": ids(20, 2, 6), "labels": ids(20, 2, 6)}
    with pytest.raises(ef.DoesNotFit, match="asks a FutureHead, and here is TiedHead"):
        FutureTokens()(ef.create("gpt", "nano", vocabulary=20), batch)
    with pytest.raises(ValueError, match="decay is above 0"):
        FutureTokens(decay=0.0)
    with pytest.raises(ef.DoesNotFit, match="at least 1; given 0 and 2"):
        model(ahead=0)


def test_narrow_maps_start_wider():
    model = ef.create("ftp", "nano", vocabulary=20, seed=0)
    for each in (model.head.expand, model.backbone.blocks[0].mixer.qkv):
        assert each.weight.std().item() == pytest.approx(0.08, rel=0.05)
