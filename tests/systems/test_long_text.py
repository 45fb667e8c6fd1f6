"""`longformer`, `bigbird`, `nystromformer`, `yoso` and `mra-attention` against Hugging Face, and the limits of their attention."""

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    BigBirdConfig,
    BigBirdForMaskedLM,
    LongformerConfig,
    LongformerForMaskedLM,
    MraConfig,
    MraForMaskedLM,
    NystromformerConfig,
    NystromformerForMaskedLM,
    YosoConfig,
    YosoForMaskedLM,
)
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.masks import Full, Window
from everyformer.mixers import blocks
from support import mra as _mra_kernels  # noqa: F401
from support.agreement import equal
from support.parity import ids, perturb, ragged
from support.parts import close, tokens

SHAPE = {
    "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "pad_token_id": 0, "hidden_act": "gelu",
}  # fmt: skip


def same(theirs, inputs, mask, fields=None, **more):
    ours = from_transformers(theirs)
    expected = theirs(inputs, attention_mask=mask.long(), **(fields or {})).logits
    equal(ours, theirs, ours(inputs, mask=mask, **more), expected, mask)


@pytest.mark.parametrize("listed", [False, True], ids=["dense", "blocks"])
def test_longformer_equals_hugging_face(listed, monkeypatch):
    """Windows of two sizes, padding, a length that is no multiple of either, marked tokens that differ by sample."""
    theirs = perturb(
        LongformerForMaskedLM(
            LongformerConfig(**{**SHAPE, "pad_token_id": 1}, max_position_embeddings=40, attention_window=[4, 8])
        )
    )
    mask, marked = ragged(3, 23), torch.rand(3, 23, generator=torch.Generator().manual_seed(3)) < 0.2
    marked[1] = False
    marked[1, 0] = True
    inputs = (ids(60, 3, 23) + 1).masked_fill(~mask, 1)
    segments = ids(3, 3, 23, seed=5) - 1
    if listed:
        monkeypatch.setattr(blocks, "SIDE", 4)
        monkeypatch.setattr(blocks, "worthwhile", lambda mask, count: True)
        blocks.groups.cache_clear()
    fields = {"global_attention_mask": (marked & mask).long(), "token_type_ids": segments}
    same(theirs, inputs, mask, fields, marked=marked, segments=segments)
    blocks.groups.cache_clear()


def test_longformer_has_the_published_size():
    """RoBERTa's 124.6 M with 4,096 positions in place of 512, three more maps in each layer and no pooler."""
    body = parameters(on_meta(ef.design("longformer", "base"))) - 768 * 768 - 3 * 768 - 50265
    roberta = 124_645_632 - 768 * 768 - 768
    assert body == roberta + (4096 - 514) * 768 + 12 * 3 * (768 * 768 + 768)


def test_without_marks_it_is_a_window_and_with_all_marked_attention():
    torch.manual_seed(0)
    mixer = ef.mixers.LongformerAttention(32, heads=4, mask=Window(2, 2))
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict({**mixer.state_dict(), **{}}, strict=False)
    whole = tokens(12)
    close(mixer(whole), plain(whole, Context(mask=Window(2, 2))))
    plain.qkv.load_state_dict(mixer.marked_qkv.state_dict())
    close(mixer(whole.replace(marked=torch.ones(3, 12, dtype=torch.bool))), plain(whole))


def test_shared_projections_are_attention_under_the_mask_of_the_marks():
    mixer = ef.mixers.GlobalLocal(32, heads=4, mask=Window(1, 1))
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    whole, places = tokens(10), torch.arange(10)
    marked = torch.zeros(3, 10, dtype=torch.bool)
    marked[0, [2, 7]], marked[2, 9] = True, True
    for row in range(3):
        seen = Window(1, 1).allows(places[:, None], places[None]) | marked[row] | marked[row][:, None]
        alone = ef.Tokens(whole.values[row : row + 1])
        q, k, v = (mixer.split(x, 4) for x in plain.qkv(alone.values).chunk(3, -1))
        wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        close(mixer(whole.replace(marked=marked))[row], plain.output(wanted.transpose(1, 2).flatten(2))[0])
    with pytest.raises(ef.BadInput, match="generate without one"):
        mixer(whole, Context(cache=ef.context.Cache()))


def test_a_far_token_is_reached_through_a_marked_one():
    model = ef.create(
        "longformer", "tiny", vocabulary=11, classes=2, width=16, heads=2, window=2, length=40, depth=2
    ).eval()
    inputs = ids(11, 1, 30)
    changed = inputs.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 11
    assert (model(inputs) - model(changed)).abs().max() > 1e-6
    local = ef.create(
        "longformer", "tiny", vocabulary=11, classes=2, width=16, heads=2, window=2, length=40, depth=2, leading=0
    ).eval()
    assert torch.equal(local(inputs), local(changed))


def test_marked_must_belong_to_the_ids():
    model = ef.create("longformer", "tiny", vocabulary=11)
    with pytest.raises(ef.BadInput, match=r"marked of shape \(1, 3\) beside ids of shape \(1, 4\)"):
        model(ids(11, 1, 4), marked=torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize("count", [44, 42], ids=["whole blocks", "part of a block"])
def test_bigbird_equals_hugging_face(count, monkeypatch):
    """With our random blocks in place of theirs, which are all the first one outside of training."""
    config = BigBirdConfig(
        **{**SHAPE, "hidden_act": "gelu_new"}, max_position_embeddings=48, block_size=4, num_random_blocks=2,
        attention_type="block_sparse",
    )  # fmt: skip
    theirs = perturb(BigBirdForMaskedLM(config))
    plans = [block.mixer.pattern(count).right for block in from_transformers(theirs).backbone.blocks]
    assert plans[0] != plans[1]
    order = iter(plans)

    def drawn(self, num_heads, **given):
        return [next(order).drawn(torch.arange(1, 10)).numpy()] * num_heads

    monkeypatch.setattr(BigBirdBlockSparseAttention, "_bigbird_block_rand_mask_with_head", drawn)
    mask = torch.ones(2, count, dtype=torch.bool)
    same(
        theirs,
        ids(61, 2, count),
        mask,
        {"token_type_ids": ids(3, 2, count, seed=5) - 1},
        segments=ids(3, 2, count, seed=5) - 1,
    )


def test_bigbird_in_full_equals_hugging_face():
    config = BigBirdConfig(**SHAPE, max_position_embeddings=48, attention_type="original_full")
    theirs = perturb(BigBirdForMaskedLM(config))
    same(
        theirs,
        ids(61, 3, 13),
        ragged(3, 13),
        {"token_type_ids": ids(3, 3, 13, seed=5) - 1},
        segments=ids(3, 3, 13, seed=5) - 1,
    )


def test_short_bigbird_is_full_attention():
    mixer = ef.mixers.BigBirdAttention(32, heads=4, block=4, random=1)
    assert isinstance(mixer.pattern(28), Full)
    assert not isinstance(mixer.pattern(29), Full)
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    close(mixer(tokens(28)), plain(tokens(28)))


def test_nystromformer_equals_hugging_face():
    """One sample at a time: theirs begins the inverse with the largest sum of the whole batch."""
    config = NystromformerConfig(
        **SHAPE, max_position_embeddings=40, num_landmarks=6, segment_means_seq_len=24, conv_kernel_size=5
    )
    theirs = perturb(NystromformerForMaskedLM(config))
    mask = torch.ones(1, 24, dtype=torch.bool)
    segments = ids(3, 1, 24, seed=5) - 1
    same(theirs, ids(61, 1, 24), mask, {"token_type_ids": segments}, segments=segments)


def test_as_many_landmarks_as_tokens_are_attention():
    mixer = ef.mixers.NystromAttention(32, heads=4, landmarks=11, kernel=None)
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    close(mixer(tokens(11)), plain(tokens(11)))


def test_the_pseudoinverse_is_one():
    matrix = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(-1).double()
    found = ef.mixers.nystrom.pseudoinverse(matrix, 30)
    close(found, torch.linalg.pinv(matrix), 1e-6)


@pytest.mark.parametrize("prior", [1, 3])
def test_mra_equals_hugging_face(prior):
    config = MraConfig(
        **{**SHAPE, "hidden_size": 64, "num_attention_heads": 2}, max_position_embeddings=128, block_per_row=2,
        initial_prior_diagonal_n_blocks=prior, type_vocab_size=2,
    )  # fmt: skip
    theirs = perturb(MraForMaskedLM(config))
    segments = ids(3, 2, 128, seed=5) - 1
    same(theirs, ids(61, 2, 128), torch.ones(2, 128).bool(), {"token_type_ids": segments}, segments=segments)


@pytest.mark.parametrize(
    "options", [{"block": 4, "exact": 3}, {"block": 1, "exact": 0}], ids=["all exact", "blocks of one"]
)
def test_mra_with_every_block_exact_is_attention(options):
    mixer = ef.mixers.MultiResolution(32, heads=4, **options)
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    close(mixer(tokens(11)), plain(tokens(11)))


def test_mra_is_its_dense_approximation_normalised():
    """The whole matrix of equation 6 written out: exp of exact scores in the chosen blocks, of their means elsewhere."""
    mixer = ef.mixers.MultiResolution(32, heads=1, block=4, exact=1)
    whole = tokens(10, batch=1)
    q, k, v = mixer.qkv(whole.values)[0].chunk(3, -1)
    spans = [slice(0, 4), slice(4, 8), slice(8, 10)]
    low = torch.stack([torch.stack([(q[a].mean(0) @ k[b].mean(0)) / 32**0.5 for b in spans]) for a in spans])
    rank = sorted(((low[i].max() - low[i, j]).item(), i, j) for i in range(3) for j in range(3))
    approximate = torch.zeros(10, 10)
    for i, a in enumerate(spans):
        for j, b in enumerate(spans):
            exact = (i, j) in {(row, column) for _, row, column in rank[:3]}
            approximate[a, b] = ((q[a] @ k[b].T) / 32**0.5).exp() if exact else low[i, j].exp()
    wanted = mixer.output(approximate @ v / approximate.sum(-1, keepdim=True))
    close(mixer(whole)[0], wanted)


@pytest.mark.parametrize("kernel", [None, 3])
def test_yoso_on_average_equals_hugging_face(kernel):
    """Without padding, which theirs counts."""
    config = YosoConfig(**SHAPE, max_position_embeddings=40, hash_code_len=4, conv_window=kernel, type_vocab_size=2)
    theirs = perturb(YosoForMaskedLM(config))
    segments = ids(3, 2, 23, seed=5) - 1
    same(theirs, ids(61, 2, 23), torch.ones(2, 23).bool(), {"token_type_ids": segments}, segments=segments)


def collided(mixer, given):
    """What the mixer sums up, and the gradients of queries, keys and values."""
    given = [each.clone().requires_grad_() for each in given]
    found = mixer.collide(*given, Context(generator=torch.Generator().manual_seed(3)))
    (found * torch.arange(found.numel()).view_as(found).sin()).sum().backward()
    return found.detach(), *(each.grad for each in given)


def test_a_bucket_holds_the_values_of_the_keys_on_the_same_sides():
    """Bernoulli variables of all pairs written out, forth and back (section 3.3)."""
    mixer = ef.mixers.SampledBernoulliAttention(22, heads=2, bits=2, hashes=3)
    given = query, key, value = [F.normalize(torch.randn(2, 2, 7, 11), dim=-1) for _ in range(3)]
    planes = mixer.eval().planes(query, None)
    sides = [torch.einsum("bhnk,hrkp->bhnrp", each, planes) > 0 for each in (query, key)]
    met = (sides[0][:, :, :, None] == sides[1][:, :, None]).all(-1).float().mean(-1)
    found, *gradients = collided(mixer, given)
    close(found, met @ value)
    told = torch.arange(found.numel()).view_as(found).sin()
    slope = (told @ value.mT) * met * mixer.bits / 2
    for got, wanted in zip(gradients, (slope @ key, slope.mT @ query, met.mT @ told), strict=True):
        close(got, wanted)


def test_more_hashes_come_closer_to_their_average():
    """The error of the answers and of every gradient falls as one over the root of the hashes."""
    torch.manual_seed(0)
    given = [F.normalize(torch.randn(1, 2, 12, 8), dim=-1) for _ in range(3)]
    wanted = collided(ef.mixers.BernoulliAttention(16, heads=2, bits=3), given)
    off = []
    for hashes in (16, 1024):
        mixer = ef.mixers.SampledBernoulliAttention(16, heads=2, bits=3, hashes=hashes).train()
        off.append([(a - b).norm() / b.norm() for a, b in zip(collided(mixer, given), wanted, strict=True)])
    for few, many in zip(*off, strict=True):
        assert 5 < few / many < 13
        assert many < 0.15


def test_hashes_are_drawn_in_training_and_fixed_in_evaluation():
    mixer = ef.mixers.SampledBernoulliAttention(16, heads=2, hashes=2, bits=4)
    assert not torch.equal(mixer(tokens(9, width=16)), mixer(tokens(9, width=16)))
    mixer.eval()
    assert torch.equal(mixer(tokens(9, width=16)), mixer(tokens(9, width=16)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 0}, "at least 1 bit; given 0"),
        ({"hashes": 0}, "hashes is at least 1; given 0"),
        ({"kernel": 2}, "odd"),
    ],
)
def test_what_cannot_be_hashed_is_said(options, said):
    with pytest.raises(ValueError, match=said):
        ef.mixers.SampledBernoulliAttention(16, heads=2, **options)


@pytest.mark.parametrize("system", ["longformer", "bigbird", "nystromformer", "yoso", "mra-attention", "hypothesis-d"])
def test_lengths_that_are_no_multiple_of_anything(system):
    model = ef.create(system, "tiny", vocabulary=11, classes=3, width=16, heads=2, length=140).eval()
    for length in (1, 7, 33, 131):
        answer = model(ids(11, 2, length))
        assert answer.shape == (2, 3)
        assert answer.isfinite().all()


def test_no_chosen_segment_is_a_window_and_all_chosen_are_attention():
    plain = ef.mixers.Attention(32, heads=4)
    for chosen, mask in ((0, Window(1, 1)), (9, Full())):
        mixer = ef.mixers.RoutedGlobal(32, heads=4, mask=Window(1, 1), segment=3, chosen=chosen)
        plain.load_state_dict(mixer.state_dict(), strict=False)
        close(mixer(tokens(10)), plain(tokens(10), Context(mask=mask)))


def test_the_most_important_segments_are_marked():
    """The same as global and local attention with those tokens marked by hand; the router has a gradient."""
    torch.manual_seed(7)
    mixer = ef.mixers.RoutedGlobal(32, heads=4, mask=Window(1, 1), segment=4, chosen=1)
    plain = ef.mixers.GlobalLocal(32, heads=4, mask=Window(1, 1))
    plain.load_state_dict(mixer.state_dict(), strict=False)
    whole = tokens(10)
    means = torch.stack([whole.values[:, start : start + 4].mean(1) for start in (0, 4, 8)], 1)
    best = mixer.router(means)[..., 0].argmax(1)
    marked = torch.arange(10) // 4 == best[:, None]
    assert len(set(best.tolist())) > 1
    found = mixer(whole)
    close(found, plain(whole.replace(marked=marked)))
    found.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in mixer.router.parameters() if p.shape != (1,))
