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


def test_a_memory_that_says_nothing_leaves_a_vit():
    model = perturb(ef.create("hypothesis-c", **SIZES, keep=2), std=0.2)
    output = model.backbone.blocks[0].cross[0].output
    for parameter in output.parameters():
        torch.nn.init.zeros_(parameter)
    vit = ef.create("vit", **{name: each for name, each in SIZES.items() if name != "fine"}).eval()
    kept = {}
    for name, each in model.state_dict().items():
        if "memory" in name or "cross" in name or "residual.1." in name:
            continue
        kept[name.replace("embedding.tokens.", "embedding.").replace("residual.2.", "residual.1.")] = each
    vit.load_state_dict(kept)
    pictures = torch.randn(2, 1, 16, 16)
    close(model(pictures), vit(pictures))


def test_what_is_read_are_the_best_of_each_head():
    """Two of 16: a change of any other fine patch changes nothing of what the block takes from the memory."""
    model = perturb(ef.create("hypothesis-c", **SIZES, keep=2), std=0.5)
    context = ef.Context()
    tokens = model.embedding(torch.randn(1, 1, 16, 16), context)
    mixer, memory = model.backbone.blocks[0].cross[0], context.memory["fine"]
    asked = mixer.query(tokens.values).unflatten(-1, (2, 8)).transpose(1, 2)
    keys = mixer.key_value(memory.values).chunk(2, -1)[0].unflatten(-1, (2, 8)).transpose(1, 2)
    best = (asked @ keys.mT).topk(2).indices.unique()
    others = [i for i in range(16) if i not in best.tolist()]
    assert memory.count == 16 > len(best)
    values = memory.values.clone()
    values[:, others] = 0
    close(mixer(tokens, context.replace(memory={"fine": memory.update(values)})), mixer(tokens, context))


def test_a_context_is_asked_for():
    with pytest.raises(ef.BadInput, match="puts the memory 'fine' into a context"):
        ef.create("hypothesis-c", **SIZES).embedding(torch.randn(1, 1, 16, 16))
