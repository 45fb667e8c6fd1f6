"""`reformer` against Hugging Face, its attention against the equations, and blocks that run backwards."""

import pytest
import torch
from torch.nn import functional as F
from transformers import ReformerConfig, ReformerForMaskedLM, ReformerModelWithLMHead

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.masks import Causal, Full
from everyformer.mixers import hashed
from support.agreement import equal, perturb, same_answers
from support.parity import ids
from support.parts import close, tokens

SHAPE = {
    "vocab_size": 61, "hidden_size": 32, "num_attention_heads": 4, "attention_head_size": 6, "feed_forward_size": 48,
    "attn_layers": ["local", "lsh", "lsh"], "axial_pos_shape": [4, 8], "axial_pos_embds_dim": [12, 20],
    "max_position_embeddings": 32, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "num_hashes": 2,
    "num_buckets": 4, "hash_seed": 3, "is_decoder": True, "use_cache": False, "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (32, {}),
        (32, {"num_buckets": [2, 4], "num_hashes": 3}),
        (19, {}),
        (3, {}),
        (32, {"is_decoder": False, "attn_layers": ["lsh", "lsh"]}),
        (19, {"is_decoder": False, "attn_layers": ["lsh", "lsh"]}),
    ],
    ids=["chunks", "factors", "part of a chunk", "one chunk", "both ways", "both ways, part of a chunk"],
)
def test_equals_hugging_face(count, changes, monkeypatch):
    """Answers, and gradients at the one length that theirs trains at.

    The score of a token for itself is -30 in both: beside -1e5 theirs, which adds logarithms, loses three digits.
    """
    config = ReformerConfig(**{**SHAPE, **changes})
    theirs = perturb((ReformerModelWithLMHead if config.is_decoder else ReformerForMaskedLM)(config), std=0.1)
    monkeypatch.setattr(hashed, "SELF", -30.0)
    for name, buffer in theirs.named_buffers():
        if name.endswith("self_mask_value_float32"):
            buffer.fill_(-30.0)
    ours = from_transformers(theirs)
    inputs = ids(61, 2, count)
    if count == 32:
        equal(ours, theirs.train(), ours(inputs), theirs(inputs).logits)
    else:
        same_answers(ours(inputs), theirs(inputs).logits)


def test_local_layers_that_look_around_the_end_are_refused():
    config = ReformerConfig(**{**SHAPE, "is_decoder": False})
    with pytest.raises(ef.DoesNotFit, match="the first chunk of a local layer of theirs sees the last one"):
        from_transformers(ReformerForMaskedLM(config))


def test_sizes_are_those_of_the_released_configs():
    config = ReformerConfig(
        vocab_size=258, hidden_size=1024, num_attention_heads=8, attention_head_size=128, feed_forward_size=4096,
        attn_layers=["local", "local", "lsh", "local"] * 3, axial_pos_shape=[128, 512], axial_pos_embds_dim=[256, 768],
        max_position_embeddings=65536, num_buckets=512, is_decoder=True,
    )  # fmt: skip
    with torch.device("meta"):
        theirs = ReformerModelWithLMHead(config)
    count = sum(p.numel() for name, p in theirs.named_parameters() if name != "lm_head.bias")
    assert parameters(on_meta(ef.design("reformer", "enwik8"))) == count


@torch.no_grad()
def literal(mixer, values, mask):
    """Equations 2 to 6 token by token: the last `chunk` of each bucket, all rounds in one softmax."""
    count, heads = values.shape[1], mixer.heads
    query = mixer.query_key(values).unflatten(-1, (heads, -1)).transpose(1, 2)
    value = mixer.value(values).unflatten(-1, (heads, -1)).transpose(1, 2)
    found = torch.zeros_like(query)
    for b in range(len(values)):
        for h in range(heads):
            key = F.normalize(query[b, h], dim=-1, eps=1e-6)
            turned = torch.einsum("nk,krs->rns", query[b, h], mixer.rotations[h])
            bucket = torch.cat((turned, -turned), -1).argmax(-1)
            for i in range(count):
                met = []
                for r in range(mixer.rounds):
                    same = [j for j in range(count) if bucket[r, j] == bucket[r, i]]
                    at = same.index(i)
                    near = same[max(at - mixer.chunk, 0) : at + mixer.chunk + 1]
                    met += [j for j in near if bool(mask.allows(torch.tensor([[i]]), torch.tensor([[j]])))]
                scores = torch.stack([query[b, h, i] @ key[j] if j != i else query.new_tensor(-1e5) for j in met])
                found[b, h, i] = scores.softmax(0) @ value[b, h, met]
    return mixer.output(found.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
def test_attention_equals_the_equations(mask):
    torch.manual_seed(0)
    mixer = ef.mixers.LSHAttention(16, heads=2, chunk=2, rounds=3, buckets=4)
    whole = tokens(11, 2, width=16)
    close(mixer(whole, Context(mask=mask)), literal(mixer, whole.values, mask), 2e-6)


def test_token_by_token_equals_at_once():
    mixer = ef.mixers.LSHAttention(16, heads=2, chunk=2, rounds=2, buckets=4)
    whole, kept = tokens(9, 2, width=16), Context(mask=Causal(), cache=Cache())
    found = []
    for piece in whole.values.split([4, 1, 3, 1], 1):
        found.append(mixer(ef.Tokens(piece), kept))
        kept.cache.advance(ef.Tokens(piece))
    close(torch.cat(found, 1), mixer(whole, Context(mask=Causal())))


def test_one_bucket_for_all_is_attention_with_shared_queries():
    """As many rounds of one bucket change nothing; a token sees itself only where there is nothing else."""
    mixer = ef.mixers.LSHAttention(32, heads=4, chunk=16, rounds=2, buckets=2)
    mixer.rotations.zero_()
    whole = tokens(9)
    query = mixer.query_key(whole.values).unflatten(-1, (4, -1)).transpose(1, 2)
    value = mixer.value(whole.values).unflatten(-1, (4, -1)).transpose(1, 2)
    seen = ~torch.eye(9, dtype=torch.bool)
    wanted = F.scaled_dot_product_attention(query, F.normalize(query, dim=-1), value, attn_mask=seen, scale=1.0)
    close(mixer(whole), mixer.output(wanted.transpose(1, 2).flatten(2)))


def test_later_tokens_move_released_chunks_and_not_ours():
    """Why the released form stands in no causal place."""
    inputs = ids(61, 1, 32)
    moved = {}
    for released in (False, True):
        model = perturb(
            ef.create(
                "reformer", "nano", vocabulary=61, width=16, depth=2, heads=2, chunk=4, buckets=4, released=released
            ),
            std=0.3,
        )
        model = model.double()
        before = model(inputs)
        moved[released] = 0.0
        for token in range(0, 61, 4):
            changed = inputs.clone()
            changed[0, -1] = token
            moved[released] = max(moved[released], (model(changed) - before)[:, :-1].abs().max().item())
    assert moved[False] < 1e-12
    assert moved[True] > 1e-4
    with pytest.raises(ef.DoesNotFit, match="is not 'causal'"):
        ef.design("reformer", "nano").swap("**.mixer", ef.spec(ef.mixers.ChunkedLSHAttention, heads=4)).build()


def test_running_backwards_gives_the_gradients_of_running_forwards():
    """Dropout included: the second run draws what the first drew."""
    torch.manual_seed(0)
    residual = ef.spec(ef.norms.PreNorm, dropout=0.3)
    block = ef.spec(ef.backbones.ReversibleBlock, mixer=ef.spec(ef.mixers.Attention, heads=4), residual=residual)
    body = ef.spec(ef.backbones.Reversible, blocks=(block,) * 3).build(16).double().train()
    whole = tokens(5, 2, width=16)
    cotangent = torch.randn(2, 5, 32, dtype=torch.float64)
    found = []
    for backwards in (True, False):
        values = whole.values.double().requires_grad_()
        torch.manual_seed(1)
        if backwards:
            answer = body(whole.update(values)).values
        else:
            both = whole.update(values.repeat(1, 1, 2))
            for each in body.blocks:
                both = each(both)
            answer = both.values
        torch.manual_seed(2)
        found.append([answer, *torch.autograd.grad((answer * cotangent).sum(), (values, *body.parameters()))])
    for one, other in zip(*found, strict=True):
        close(one, other, 1e-9)


def test_what_it_cannot_run_backwards_is_refused():
    for changes, message in (
        ({"mixer": ef.spec(ef.mixers.CrossAttention, heads=4)}, "would get no gradient"),
        ({"residual": ef.spec(ef.norms.PreNorm, norm=ef.spec(ef.norms.BatchNorm))}, "each block is run twice"),
    ):
        block = ef.spec(ef.backbones.ReversibleBlock, **changes)
        with pytest.raises(ef.DoesNotFit, match=message):
            ef.spec(ef.backbones.Reversible, blocks=(block,)).build(16)
    with pytest.raises(ValueError, match="two streams"):
        ef.backbones.ReversibleBlock(15)
    with pytest.raises(ValueError, match="even number of buckets"):
        ef.mixers.LSHAttention(16, heads=2, buckets=3)
    with pytest.raises(ef.UnknownName, match="kind of layer 'global'"):
        ef.design("reformer", pattern=("global",))


def test_places_fold_into_rows_and_columns():
    part = ef.positions.Axial(6, grid=(3, 4), widths=(2, 4))
    added = part.add(tokens(12, 1, width=6))[0]
    for place in range(12):
        close(added[place], torch.cat((part.rows.weight[place // 4], part.columns.weight[place % 4])))
    with pytest.raises(ef.BadInput, match="13 tokens, and learned positions for 12"):
        part.add(tokens(13, 1, width=6))
    with pytest.raises(ValueError, match="two that sum to 6"):
        ef.positions.Axial(6, widths=(2, 2))
