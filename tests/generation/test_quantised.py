"""Caches in few bits: the published rounding, algorithm 1 written out, and what stands beside it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import H2O, KIVI, TOVA, Beam, Greedy, Sinks, generate
from everyformer.generation.quantised import ByChannel, ByToken, pack, unpack
from everyformer.masks import Causal
from support.agreement import perturb

FIXTURES = Path(__file__).parents[1] / "fixtures"
WIDTH, HEADS = 32, 4
OPTIONS = {"eos": None, "pad": 0, "max_tokens": 14}
PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 5], [6, 7, 3, 11, 2], [9]]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_come_back_from_their_bytes(bits):
    codes = torch.randint(2**bits, (3, 5, 16), dtype=torch.uint8)
    assert pack(codes, bits).shape[-1] == 2 * bits
    assert torch.equal(unpack(pack(codes, bits), bits), codes)


def test_rounding_is_that_of_the_authors_code():
    saved = load_file(FIXTURES / "kivi.safetensors")
    for bits in (2, 4):
        keys = ByChannel(saved["input"], bits, 16, 32)
        torch.testing.assert_close(keys.whole(), saved[f"key.{bits}"], atol=1e-5, rtol=0)
        values = ByToken(saved["input"], bits, 16, 0)
        torch.testing.assert_close(values.whole(), saved[f"value.{bits}"], atol=1e-5, rtol=0)


def by_groups(x, dim, group, bits):
    """Algorithm 1, quantise and back: groups of a (tokens, channels) matrix along `dim`."""
    found = torch.empty_like(x)
    if not len(x):
        return found
    for piece, out in zip(x.split(group, dim), found.split(group, dim), strict=True):
        least, step = piece.amin(dim, True), (piece.amax(dim, True) - piece.amin(dim, True)) / (2**bits - 1)
        out.copy_(((piece - least) / step).round() * step + least)
    return found


def literal(mixer, x, pieces, bits, group, residual):
    """Algorithm 1 for one head at a time: a prompt as it is, then token by token."""
    answers = []
    for head in range(HEADS):
        q, k, v = (each.unflatten(-1, (HEADS, -1))[:, head] for each in mixer.qkv(x).chunk(3, -1))
        said, start = [], 0
        old_keys, keys, old_values, values = k[:0], k[:0], v[:0], v[:0]
        for count in pieces:
            now = slice(start, start + count)
            keys, values = torch.cat((keys, k[now])), torch.cat((values, v[now]))
            if start == 0:
                seen_keys, seen_values = keys, values
            else:
                seen_keys, seen_values = torch.cat((old_keys, keys)), torch.cat((old_values, values))
            scores = q[now] @ seen_keys.T * mixer.scale
            scores = scores.masked_fill(~torch.ones_like(scores).bool().tril(start), float("-inf"))
            said.append(scores.softmax(-1) @ seen_values)
            whole = len(keys) // residual * residual
            old_keys, keys = torch.cat((old_keys, by_groups(keys[:whole], 0, group, bits))), keys[whole:]
            old = max(0, len(values) - residual)
            old_values = torch.cat((old_values, by_groups(values[:old], 1, min(group, 8), bits)))
            values, start = values[old:], start + count
        answers.append(torch.cat(said))
    return torch.stack(answers, 1).flatten(1)


def run(mixer, x, pieces, context):
    found = []
    for piece in x[None].split(pieces, 1):
        context.lowered.clear()
        found.append(mixer(ef.Tokens(piece), context))
        context.cache.advance(ef.Tokens(piece))
    return torch.cat(found, 1)[0]


@pytest.mark.parametrize(("bits", "group", "residual"), [(2, 4, 8), (4, 4, 4), (8, 16, 16)])
@torch.no_grad()
def test_decoding_is_algorithm_1(bits, group, residual):
    torch.manual_seed(0)
    mixer, x, pieces = ef.mixers.Attention(WIDTH, heads=HEADS), torch.randn(30, WIDTH), [13] + [1] * 17
    mixer.output = torch.nn.Identity()
    context = Context(mask=Causal(), cache=Cache(storage=KIVI(bits=bits, group=group, residual=residual)))
    wanted = literal(mixer, x, pieces, bits, group, residual)
    torch.testing.assert_close(run(mixer, x, pieces, context), wanted, atol=1e-5, rtol=0)
    exact = run(mixer, x, pieces, Context(mask=Causal(), cache=Cache()))
    assert 1e-4 < (wanted - exact).abs().max() < (1.0 if bits > 2 else 3.0)


def decoder():
    return perturb(ef.create("llama", "nano", vocabulary=20, width=32, hidden=48, depth=2, heads=4, seed=0), std=0.15)


def test_room_for_all_as_it_is_changes_nothing():
    for strategy in (Greedy(), Beam(size=3)):
        wanted = generate(decoder(), PROMPTS, strategy=strategy, **OPTIONS)
        assert generate(decoder(), PROMPTS, strategy=strategy, storage=KIVI(bits=2, residual=32), **OPTIONS) == wanted


@pytest.mark.parametrize("policy", [None, H2O(keep=5), TOVA(keep=0.6)], ids=str)
def test_a_batch_is_its_sequences_and_tokens_may_be_dropped(policy):
    made = decoder()
    for strategy in (Greedy(), Beam(size=2)):
        options = {**OPTIONS, "policy": policy, "storage": KIVI(bits=8, group=2, residual=2), "strategy": strategy}
        apart = [generate(made, [each], **options)[0] for each in PROMPTS[:1] * 3]
        assert generate(made, PROMPTS[:1] * 3, **options) == apart


@torch.no_grad()
def test_dropped_tokens_take_nothing_of_the_others_with_them():
    """Eight bits and a policy: near the same policy without rounding."""
    made, ids = decoder(), torch.randint(20, (2, 40), generator=torch.Generator().manual_seed(1))
    found = []
    for storage in (None, KIVI(bits=8, group=4, residual=8)):
        context = Context(cache=Cache(TOVA(keep=0.5), storage))
        found.append(torch.cat([made.decode(piece, context) for piece in ids.split(4, 1)], 1))
    assert 0 < (found[0] - found[1]).abs().max() < 0.02 * found[0].std()


@torch.no_grad()
def test_memory_shrinks_by_the_bits():
    made, ids = decoder(), torch.randint(20, (1, 512))
    held = {}
    for bits in (None, 8, 2):
        context = Context(cache=Cache(storage=None if bits is None else KIVI(bits=bits, group=8, residual=8)))
        made.decode(ids, context)
        held[bits] = context.cache.bytes - len(made.backbone.blocks) * ids.numel() * 8
    assert held[8] < 0.55 * held[None]
    assert held[2] < held[8] - 0.18 * held[None]


def test_what_cannot_be_done_is_refused():
    with pytest.raises(BadInput, match=r"bits is 3; give one of"):
        KIVI(bits=3)
    with pytest.raises(BadInput, match="residual 10 is a multiple of group 4"):
        KIVI(group=4, residual=10)
    with pytest.raises(DoesNotFit, match="Sinks turns keys to new places"):
        generate(decoder(), PROMPTS, policy=Sinks(sinks=1, window=3), storage=KIVI(), **OPTIONS)
    with pytest.raises(DoesNotFit, match="a head of 8 channels fills no whole bytes"):
        generate(decoder(), PROMPTS, storage=KIVI(group=3, residual=3), **OPTIONS)
