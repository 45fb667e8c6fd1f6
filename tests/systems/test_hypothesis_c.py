"""`hypothesis-c`: what is retrieved, and the limits that make it a ViT and a ViT with attention to all fine patches."""

import pytest
import torch

import everyformer as ef
from support.agreement import close, perturb

SIZES = {"classes": 3, "image": 16, "channels": 1, "patch": 8, "width": 16, "depth": 1, "heads": 2, "fine": 4}


def test_keeping_all_is_attention_to_every_fine_patch():
    model = perturb(ef.create("hypothesis-c", **SIZES, keep=16), std=0.2)
    whole = ef.design("hypothesis-c", **SIZES).swap(
        "backbone.blocks.0.cross.0", ef.spec(ef.mixers.CrossAttention, heads=2, memory="fine")
    )
    plain = whole.build().eval()
    plain.load_state_dict(model.state_dict())
    pictures = torch.randn(2, 1, 16, 16)
    close(model(pictures), plain(pictures))


def test_a_memory_that_says_nothing_leaves_a_plain_stage():
    model = perturb(ef.create("hypothesis-c", **SIZES, keep=2), std=0.2)
    for parameter in model.backbone.blocks[0].cross[0].output.parameters():
        torch.nn.init.zeros_(parameter)
    plain = ef.design("hypothesis-c", **SIZES).set("backbone.blocks.0.cross", ()).build().eval()
    kept = {n: each for n, each in model.state_dict().items() if "cross" not in n and "residual.1." not in n}
    plain.load_state_dict({n.replace("residual.2.", "residual.1."): each for n, each in kept.items()})
    pictures = torch.randn(2, 1, 16, 16)
    close(model(pictures), plain(pictures))


def test_what_is_read_are_the_best_of_each_head():
    """Two of 16: a change of any other fine patch changes nothing of what the block takes from the memory."""
    model = perturb(ef.create("hypothesis-c", **SIZES, keep=2), std=0.5)
    memory = model.embedding(torch.randn(1, 1, 16, 16))
    tokens, mixer = model.backbone.enter(memory), model.backbone.blocks[0].cross[0]
    asked = mixer.query(tokens.values).unflatten(-1, (2, 8)).transpose(1, 2)
    keys = mixer.key_value(memory.values).chunk(2, -1)[0].unflatten(-1, (2, 8)).transpose(1, 2)
    best = (asked @ keys.mT).topk(2).indices.unique()
    others = [i for i in range(16) if i not in best.tolist()]
    assert memory.count == 16 > len(best)
    values = memory.values.clone()
    values[:, others] = 0
    found = [mixer(tokens, ef.Context(memory={"fine": each})) for each in (memory.update(values), memory)]
    close(*found)


def test_patches_that_are_not_made_of_whole_fine_ones_are_refused():
    with pytest.raises(ValueError, match="made of whole fine ones; given 8 and 3"):
        ef.design("hypothesis-c", **{**SIZES, "fine": 3})
