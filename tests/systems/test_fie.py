"""`fie` against Hugging Face and dense attention under a mask, and its probabilities of answers."""

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel

import everyformer as ef
from everyformer.heads import answers, spans
from everyformer.interop import from_transformers
from everyformer.objectives import MarginalSpans
from support.agreement import perturb
from support.parity import ids
from support.parts import close, tokens


def tiny(**more):
    shape = {"vocabulary": 23, "width": 24, "hidden": 32, "depth": 2, "heads": 4, "length": 8, "longest": 3}
    return perturb(ef.create("fie", seed=0, **{**shape, "shared": 2, "passages": 4, **more}))


def passages(*lengths, batch=2, longest=8):
    """Ids of passages of these lengths, padded."""
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return ids(23, batch * len(lengths), longest).view(batch, -1, longest) * real


@torch.no_grad()
def test_with_nothing_shared_each_passage_is_read_as_by_hugging_face():
    config = BertConfig(
        vocab_size=23, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=8,
    )  # fmt: skip
    theirs = perturb(BertModel(config, add_pooling_layer=False))
    model, known = tiny(shared=0), from_transformers(theirs).state_dict()
    model.load_state_dict({**model.state_dict(), **known})
    inputs = passages(8, 5, 3)
    found, flat = model.features(inputs).values.unflatten(1, (3, 8)), inputs.flatten(0, 1)
    wanted = theirs(flat, attention_mask=(flat != 0).long()).last_hidden_state.view_as(found)
    close(found[inputs != 0], wanted[inputs != 0])


def test_attention_is_dense_attention_under_its_mask():
    """Answers and gradients; of two samples one lacks a whole passage."""
    mixer = ef.mixers.FusedAttention(24, heads=4, shared=2)
    values = tokens(15, batch=2, width=24).values.requires_grad_()
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    mask[0, 1, 4:], mask[1, 2, 2:] = False, False
    mask, row, shared = mask.flatten(1), torch.arange(15) // 5, torch.arange(15) % 5 < 2
    seen = (row[:, None] == row) | shared | shared[:, None]
    q, k, v = (mixer.split(x, 4) for x in mixer.qkv(values).chunk(3, -1))
    dense = F.scaled_dot_product_attention(q, k, v, attn_mask=seen & mask[:, None, None])
    wanted = mixer.output(dense.transpose(1, 2).flatten(2))[mask]
    found = mixer(ef.Tokens(values, mask=mask, grid=(3, 5)))[mask]
    close(found, wanted)
    for one, other in zip(
        *(torch.autograd.grad(x.square().sum(), [values, mixer.qkv.weight]) for x in (found, wanted))
    ):
        close(one, other)


@torch.no_grad()
def test_a_passage_changes_another_once_what_is_shared_has_read_it():
    inputs = passages(8, 8)
    changed = inputs.clone()
    changed[:, 1, 3] = changed[:, 1, 3] % 22 + 1
    for depth, shared, moved in ((1, 2, False), (2, 2, True), (2, 0, False)):
        model = tiny(depth=depth, shared=shared)
        gap = (model(inputs)[:, 0] - model(changed)[:, 0]).abs().max()
        assert (gap > 1e-7) == moved


@torch.no_grad()
def test_padding_changes_no_score():
    model, inputs = tiny(), passages(6, 4, longest=6)
    more = F.pad(inputs, (0, 2, 0, 0))
    real = spans(inputs, 3)
    close(model(more)[:, :, :6][real], model(inputs)[real])


@torch.no_grad()
def test_answers_share_one_probability():
    """The same words twice have the mass of both; the loss is minus the logarithm of what the right ones have."""
    inputs, scores = torch.tensor([[[5, 6, 7], [5, 6, 0]]]), torch.randn(1, 2, 3, 2)
    (found,) = answers(scores, inputs)
    whole = torch.stack([scores[0, 0, 0, 0], scores[0, 0, 1, 0], scores[0, 0, 2, 0], scores[0, 0, 0, 1],
                         scores[0, 0, 1, 1], scores[0, 1, 0, 0], scores[0, 1, 1, 0], scores[0, 1, 0, 1]]).softmax(0)  # fmt: skip
    assert sum(found.values()) == pytest.approx(1)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found[5, 6] == pytest.approx((whole[3] + whole[7]).item())
    assert set(found) == {(5,), (6,), (7,), (5, 6), (6, 7)}
    labels = torch.where(spans(inputs, 2), 0, -100)
    labels[0, :, 0, 1] = 1

    class Said(torch.nn.Module):
        def forward(self, inputs):
            return scores

    loss = MarginalSpans()(Said(), {"inputs": inputs, "labels": labels})
    assert loss.total.item() == pytest.approx(-torch.tensor(found[5, 6]).log().item(), rel=1e-5)
    assert loss.count == 1


def test_what_does_not_fit_is_said():
    model = tiny()
    with pytest.raises(ef.BadInput, match=r"passages \(B, P, L\); given a tensor of 2 dimensions"):
        model(ids(23, 2, 8))
    with pytest.raises(ef.BadInput, match="5 passages and ranks for 4"):
        model(passages(8, 8, 8, 8, 8))
    with pytest.raises(
        ef.BadInput, match="fill a grid, one a row, each with 2 shared tokens in front; given grid=None"
    ):
        ef.mixers.FusedAttention(24, heads=4, shared=2)(tokens(6, width=24))
    with pytest.raises(ef.DoesNotFit, match="longest=0"):
        tiny(longest=0)
