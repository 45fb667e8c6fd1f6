"""Ways of making a model one project's own: what learns, what stays, and the prefix against Hugging Face's cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

import everyformer as ef
from everyformer.compression.personal import WAYS, personalised
from everyformer.interop import from_transformers
from support.agreement import close, perturb
from support.parity import ids
from support.systems import tiny

LEARN = {
    "ends": ("embedding.", "head."),
    "last-block": ("backbone.blocks.1.",),
    "prefix": (".slots.",),
    "low-rank": (".down.", ".up."),
    "whole": ("",),
}


@pytest.mark.parametrize("way", WAYS)
def test_only_what_is_named_learns_and_the_rest_stays_bit_for_bit(way: str) -> None:
    model: Any = perturb(tiny("gpt").build(seed=0))
    given = {name: each.clone() for name, each in model.state_dict().items()}
    made: Any = perturb(personalised(model, way, size=3, seed=1), seed=2)
    learnt = {name for name, each in made.named_parameters() if each.requires_grad}
    assert learnt
    assert all(any(part in name for part in LEARN[way]) for name in learnt)
    before = {name: each.clone() for name, each in made.state_dict().items()}
    kept = {name: each for name, each in before.items() if name in given and not name.startswith(LEARN[way])}
    assert all(torch.equal(each, given[name]) for name, each in kept.items()) or way == "whole"
    optimizer = torch.optim.SGD((p for p in made.parameters() if p.requires_grad), lr=1.0)
    made(ids(20, 2, 7)).square().sum().backward()
    optimizer.step()
    changed = {name for name, each in made.state_dict().items() if not torch.equal(each, before[name])}
    assert learnt <= changed <= learnt | {"head.project.weight"}
    assert all(torch.equal(each, given[name]) for name, each in model.state_dict().items())


def test_a_prefix_is_hugging_faces_cache_of_past_keys_and_values() -> None:
    config = GPT2Config(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    theirs = perturb(GPT2LMHeadModel(config), std=0.2)
    ours: Any = personalised(from_transformers(theirs).eval(), "prefix", size=3, seed=0)
    cache = DynamicCache(config=config)
    for i, block in enumerate(ours.backbone.blocks):
        slots = block.mixer.slots
        cache.update(slots.key.detach().expand(2, -1, -1, -1), slots.value.detach().expand(2, -1, -1, -1), i)
    inputs = ids(31, 2, 7)
    wanted = theirs(inputs, past_key_values=cache, position_ids=torch.arange(7)[None]).logits
    close(ours(inputs), wanted)
    assert (ours(inputs) - theirs(inputs).logits).abs().max() > 0.01


def test_prefixes_stand_in_cross_attention_too_and_adapters_begin_as_nothing() -> None:
    model: Any = perturb(tiny("bart").build(seed=0))
    inputs, target = ids(20, 2, 5), ids(20, 2, 6, seed=1)
    made: Any = personalised(model, "prefix", size=2)
    assert made.decoder.blocks[0].cross[0].slots.count == made.encoder.blocks[0].mixer.slots.count == 2
    close(personalised(model, "low-rank", size=2)(inputs, target), model(inputs, target))


def test_what_cannot_be_personalised_is_told() -> None:
    model = tiny("gpt").build(seed=0)
    with pytest.raises(ef.UnknownName, match="way of making"):
        personalised(model, "all")
    with pytest.raises(ef.BadInput, match="size is 0"):
        personalised(model, "prefix", size=0)
    with pytest.raises(ef.DoesNotFit, match="already"):
        personalised(personalised(model, "prefix"), "prefix")
    with pytest.raises(ef.DoesNotFit, match="no attention here"):
        personalised(tiny("mlp-mixer").build(), "prefix")
    with pytest.raises(ef.DoesNotFit, match="no stack of blocks"):
        personalised(tiny("swin").build(), "last-block")
