"""Trained attention rewritten: values made of keys give the same answers, shared keys are the means."""

import pytest
import torch

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import KIVI, Sinks, generate, shared_keys, slim_attention
from everyformer.mixers import SlimAttention
from support.agreement import perturb

SHAPE = {"vocabulary": 23, "width": 32, "depth": 2, "heads": 4}
MODELS = {
    "gpt": lambda: ef.create("gpt", length=256, **SHAPE, seed=0),
    "llama": lambda: ef.create("llama", hidden=48, **SHAPE, seed=0),
    "qwen3": lambda: ef.create("llama", hidden=48, query_key_norm=True, bias=True, **SHAPE, seed=0),
}
PROMPTS = [[1, 2, 3, 4, 5], [6], [7, 8, 9]]


def model(name):
    return perturb(MODELS[name](), std=0.15).double()


def stepwise(made, ids, cache):
    context = Context(cache=cache)
    return torch.cat([made.decode(piece, context) for piece in ids.split([20] + [1] * (ids.shape[1] - 20), 1)], 1)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_slim_attention_is_the_same_in_float64_from_half_the_cache(name):
    made = model(name)
    slim, ids = slim_attention(made), torch.randint(23, (1, 120), generator=torch.Generator().manual_seed(1))
    assert isinstance(slim.backbone.blocks[0].mixer, SlimAttention)
    torch.testing.assert_close(slim(ids), made(ids), atol=1e-9, rtol=1e-9)
    caches = Cache(), Cache()
    wanted = stepwise(made, ids, caches[0])
    torch.testing.assert_close(stepwise(slim, ids, caches[1]), wanted, atol=1e-9, rtol=1e-9)
    places = sum(kept["places"].bytes for kept in caches[0].columns.values() if "places" in kept)
    assert caches[1].bytes - places == (caches[0].bytes - places) / 2
    options = {"eos": None, "pad": 0, "max_tokens": 20}
    assert generate(slim, PROMPTS, **options) == generate(made, PROMPTS, **options)
    single = slim.float(), made.float()
    torch.testing.assert_close(*(each(ids) for each in single), atol=1e-3, rtol=0)


def test_slim_attention_takes_policies_by_place_and_few_bits():
    made = model("llama").float()
    slim, options = slim_attention(made), {"eos": None, "pad": 0, "max_tokens": 12}
    assert generate(slim, PROMPTS, policy=Sinks(sinks=1, window=4), **options) == generate(
        made, PROMPTS, policy=Sinks(sinks=1, window=4), **options
    )
    assert generate(slim, PROMPTS, storage=KIVI(residual=32), **options) == generate(made, PROMPTS, **options)


def test_what_cannot_be_inverted_is_refused_by_its_path():
    made = model("gpt")
    with torch.no_grad():
        made.backbone.blocks[1].mixer.qkv.weight[32] = made.backbone.blocks[1].mixer.qkv.weight[33]
    with pytest.raises(DoesNotFit, match=r"at 'backbone.blocks.1.mixer': the map to the keys has a condition of"):
        slim_attention(made)
    with pytest.raises(DoesNotFit, match="2 key heads of 8 make no square map"):
        slim_attention(ef.create("llama", hidden=48, key_heads=2, **SHAPE))
    with pytest.raises(DoesNotFit, match="no plain attention"):
        slim_attention(ef.create("retnet", "nano"))
    with pytest.raises(BadInput, match="key_heads is 3"):
        shared_keys(made, key_heads=3)


@pytest.mark.parametrize("key_heads", [1, 2])
@torch.no_grad()
def test_shared_keys_are_the_means_of_their_groups(key_heads):
    made = perturb(ef.create("transformer", "tiny", vocabulary=23, width=32, hidden=48, depth=1, seed=0))
    ids, target = torch.randint(23, (2, 7)), torch.randint(23, (2, 5))
    few = shared_keys(made, key_heads=key_heads)
    for mixer in (each for each in made.modules() if type(each).__name__ in ("Attention", "CrossAttention")):
        size, group = mixer.key_heads * mixer.head_width, mixer.key_heads // key_heads
        for given in getattr(mixer, "qkv", getattr(mixer, "key_value", None)).parameters():
            for rows in given[-2 * size :].split(size):
                for heads in rows.split(group * mixer.head_width):
                    pieces = heads.split(mixer.head_width)
                    mean = sum(pieces) / group
                    for each in pieces:
                        each.copy_(mean)
    torch.testing.assert_close(few(ids, target), made(ids, target), atol=1e-5, rtol=0)
    assert (
        few.decoder.blocks[0].cross[0].key_value.out_features
        == 2 * key_heads * few.decoder.blocks[0].cross[0].head_width
    )
    torch.testing.assert_close(shared_keys(few, key_heads=key_heads)(ids, target), few(ids, target), atol=0, rtol=0)
