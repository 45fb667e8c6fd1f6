"""`transformer` against torch.nn.Transformer."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop.weights import Pair, fill, layer, tensors
from support.parity import agree, ids, perturb, ragged

WIDTH, HEADS, HIDDEN, DEPTH, WORDS = 48, 4, 96, 3, 71


class Plain(nn.Module):
    """torch.nn.Transformer between a table and its own transpose."""

    def __init__(self, pre_norm):
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.body = nn.Transformer(
            WIDTH, HEADS, DEPTH, DEPTH, HIDDEN, dropout=0.0, batch_first=True, norm_first=pre_norm
        )
        if not pre_norm:
            self.body.encoder.norm = self.body.decoder.norm = None

    def embed(self, words):
        place = torch.arange(words.shape[1])[:, None]
        waves = torch.zeros(words.shape[1], WIDTH)
        for i in range(WIDTH // 2):
            waves[:, 2 * i] = torch.sin(place[:, 0] / 10000 ** (2 * i / WIDTH))
            waves[:, 2 * i + 1] = torch.cos(place[:, 0] / 10000 ** (2 * i / WIDTH))
        return self.table(words) * WIDTH**0.5 + waves

    def forward(self, source, target, mask, target_mask):
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        after = self.body(
            self.embed(source),
            self.embed(target),
            tgt_mask=later,
            src_key_padding_mask=~mask,
            tgt_key_padding_mask=~target_mask,
            memory_key_padding_mask=~mask,
        )
        return after @ self.table.weight.T


def pairs(pre_norm):
    """Which of torch's tensors is made of which of ours."""
    table = layer("table", "source.table", bias=False)
    for stack in ("encoder", "decoder"):
        for i in range(DEPTH):
            ours, theirs = f"{stack}.blocks.{i}", f"body.{stack}.layers.{i}"
            for kind in ("weight", "bias"):
                table.append(Pair(f"{theirs}.self_attn.in_proj_{kind}", (f"{ours}.mixer.qkv.{kind}",)))
            table += layer(f"{theirs}.self_attn.out_proj", f"{ours}.mixer.output")
            norms = 2
            if stack == "decoder":
                norms, cross, crossed = 3, f"{ours}.cross.0", f"{theirs}.multihead_attn"
                for kind in ("weight", "bias"):
                    whole = f"{cross}.query.{kind}", f"{cross}.key_value.{kind}"
                    table.append(Pair(f"{crossed}.in_proj_{kind}", whole))
                table += layer(f"{crossed}.out_proj", f"{cross}.output")
            table += layer(f"{theirs}.linear1", f"{ours}.feedforward.up")
            table += layer(f"{theirs}.linear2", f"{ours}.feedforward.down")
            for j in range(norms):
                table += layer(f"{theirs}.norm{j + 1}", f"{ours}.residual.{j}.norm")
        if pre_norm:
            table += layer(f"body.{stack}.norm", f"{stack}.norm")
    return table


@pytest.mark.parametrize("pre_norm", [False, True])
def test_equals_torch(pre_norm):
    sizes = {"width": WIDTH, "hidden": HIDDEN, "depth": DEPTH, "heads": HEADS, "dropout": 0.0}
    ours = perturb(ef.create("transformer", vocabulary=WORDS, pre_norm=pre_norm, seed=0, **sizes))
    theirs = Plain(pre_norm).train()
    fill(theirs, pairs(pre_norm), tensors(ours))
    source, mask = ids(WORDS, 3, 13), ragged(3, 13)
    target, target_mask = ids(WORDS, 3, 11, seed=4), ragged(3, 11)
    answer = ours(source, target, mask=mask, target_mask=target_mask)
    expected = theirs(source, target, mask, target_mask)
    agree(theirs, ours, pairs(pre_norm), expected, answer, target_mask)


@pytest.mark.parametrize(("size", "d", "h", "published"), [("base", 512, 2048, 65e6), ("big", 1024, 4096, 213e6)])
def test_sizes_are_the_published_ones(size, d, h, published):
    attention, feedforward, norm = 4 * d * d + 4 * d, 2 * d * h + h + d, 2 * d
    encoder = 6 * (attention + feedforward + 2 * norm)
    decoder = 6 * (2 * attention + feedforward + 3 * norm)
    count = parameters(on_meta(ef.design("transformer", size)))
    assert count == encoder + decoder + 37_000 * d
    assert count == pytest.approx(published, rel=0.03)


def test_tiny_is_that_of_wu_et_al():
    model = on_meta(ef.design("transformer", "tiny", vocabulary=10_000))
    assert len(model.encoder.blocks) == len(model.decoder.blocks) == 4
    assert model.source.width == 128
    assert model.encoder.blocks[0].mixer.heads == 4
    assert model.encoder.blocks[0].feedforward.up.out_features == 256
    assert parameters(model) <= 2_700_000
