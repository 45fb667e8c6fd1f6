"""`residual-memory-transformer` against PyTorch's own layers beside Hugging Face's GPT-2, and what must hold of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import everyformer as ef
from everyformer.generation import generate
from everyformer.interop import from_transformers
from everyformer.models import residual_memory
from support.agreement import close, perturb
from support.parity import ids
from support.systems import tiny

WIDTH, HEADS, HIDDEN, VOCABULARY = 16, 2, 24, 31


class Theirs(nn.Module):
    """The authors' layers: PyTorch's encoder layer, and its decoder layer with one more attention after the first."""

    def __init__(self, language: GPT2LMHeadModel, layers: int) -> None:
        super().__init__()
        shape = {"d_model": WIDTH, "nhead": HEADS, "dim_feedforward": HIDDEN, "dropout": 0.0, "batch_first": True}
        self.language = language.requires_grad_(False)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(**shape) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(**shape) for _ in range(layers))
        self.residual = nn.ModuleList(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(layers))
        self.norm = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(layers))
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, inputs: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        body = self.language.transformer
        memory = body.wte(inputs) + body.wpe((mask.long().cumsum(1) - 1).clamp(min=0))
        for layer in self.encoder:
            memory = layer(memory, src_key_padding_mask=~mask)
        said = self.language(target, output_hidden_states=True)
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        x, last = said.hidden_states[0], said.hidden_states[-1]
        for layer, attention, norm in zip(self.decoder, self.residual, self.norm, strict=True):
            x = layer.norm1(x + layer.self_attn(x, x, x, attn_mask=later, need_weights=False)[0])
            x = norm(x + attention(x, last, last, attn_mask=later, need_weights=False)[0])
            crossed = layer.multihead_attn(x, memory, memory, key_padding_mask=~mask, need_weights=False)[0]
            x = layer.norm2(x + crossed)
            x = layer.norm3(x + layer.linear2(layer.linear1(x).relu()))
        return 0.5 * self.head(x) + 0.5 * said.logits


def pairs(ours: Any, theirs: Theirs) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Our parameters beside theirs; of queries, keys and values the rows."""
    found = [(ours.head.project.weight, theirs.head.weight)]

    def linear(one: nn.Linear, other: Any, rows: slice = slice(None)) -> None:
        found.append((one.weight, other[0][rows]))
        found.append((one.bias, other[1][rows]))

    def maps(one: Any, other: nn.MultiheadAttention) -> None:
        joined = other.in_proj_weight, other.in_proj_bias
        if hasattr(one, "qkv"):
            linear(one.qkv, joined)
        else:
            linear(one.query, joined, slice(WIDTH))
            linear(one.key_value, joined, slice(WIDTH, None))
        linear(one.output, (other.out_proj.weight, other.out_proj.bias))

    def around(block: Any, layer: Any, norms: list[nn.LayerNorm]) -> None:
        linear(block.feedforward.up, (layer.linear1.weight, layer.linear1.bias))
        linear(block.feedforward.down, (layer.linear2.weight, layer.linear2.bias))
        for one, other in zip(block.residual, norms, strict=True):
            linear(one.norm, (other.weight, other.bias))

    for block, layer in zip(ours.encoder.blocks, theirs.encoder, strict=True):
        maps(block.mixer, layer.self_attn)
        around(block, layer, [layer.norm1, layer.norm2])
    decoders = zip(ours.decoder.blocks, theirs.decoder, theirs.residual, theirs.norm, strict=True)
    for block, layer, attention, norm in decoders:
        for one, other in zip((block.mixer, *block.cross), (layer.self_attn, attention, layer.multihead_attn)):
            maps(one, other)
        around(block, layer, [layer.norm1, norm, layer.norm2, layer.norm3])
    return found


def test_equals_the_layers_of_pytorch_beside_hugging_faces_gpt_2() -> None:
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=12, n_embd=WIDTH, n_layer=2, n_head=2)
    language = perturb(GPT2LMHeadModel(config))
    theirs = perturb(Theirs(language, layers=2), std=0.2)
    ours: Any = residual_memory(
        from_transformers(language), layers=2, heads=HEADS, hidden=HIDDEN, dropout=0.0, seed=0
    ).eval()
    with torch.no_grad():
        for one, other in pairs(ours, theirs):
            one.copy_(other)
    inputs, target = ids(VOCABULARY, 2, 5), ids(VOCABULARY, 2, 7, seed=1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found, wanted = ours(inputs, target, mask=mask), theirs(inputs, target, mask)
    close(found, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    for answer in (found, wanted):
        (answer * weights).sum().backward()
    learnt = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    assert all(each is not None for each in learnt.values())
    assert not [name for name in learnt if name.startswith(("source.", "language.", "voice."))]
    given = {id(p): p.grad for p in theirs.parameters()}
    with torch.no_grad():
        for p in theirs.parameters():
            if given[id(p)] is not None:
                p.copy_(given[id(p)])
    for one, other in pairs(ours, theirs):
        close(one.grad, other, "gradient")


def test_without_control_it_is_the_language_model_and_training_leaves_that_as_it_is() -> None:
    language: Any = perturb(tiny("gpt").build(seed=0), std=0.2)
    model: Any = perturb(residual_memory(language, layers=1, heads=2, hidden=24, seed=1))
    inputs, target = ids(20, 2, 5), ids(20, 2, 7, seed=1)
    mixed = model(inputs, target)
    model.control = 0.0
    close(model(inputs, target), language(target))
    assert (mixed - language(target)).abs().max() > 0.1
    model.control = 0.5
    before = [each.clone() for part in model.frozen for each in part.parameters()]
    adam = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.train()
    model(inputs, target).square().sum().backward()
    adam.step()
    assert not any(part.training for part in model.frozen)
    after = [each for part in model.frozen for each in part.parameters()]
    assert all(torch.equal(each, other) for each, other in zip(after, before, strict=True))


@torch.no_grad()
def test_the_control_is_heard_and_no_later_token_is() -> None:
    model: Any = perturb(tiny("residual-memory-transformer").build(seed=0), std=0.2)
    inputs, target = ids(20, 2, 5), ids(20, 2, 7, seed=1)
    plain = model(inputs, target)
    other = target.clone()
    other[:, 4:] = (other[:, 4:] + 3) % 20
    close(model(inputs, other)[:, :4], plain[:, :4])
    assert (model((inputs + 3) % 20, target) - plain).abs().amax((0, 2)).min() > 1e-3
    options = {"bos": 1, "eos": None, "pad": 0, "max_tokens": 6}
    sources = [[3, 4, 5], [6, 7, 8, 9, 10]]
    written = generate(model, sources, **options)
    assert written == generate(model, sources, cache=False, **options)
    assert written == [generate(model, [each], **options)[0] for each in sources]


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ef.DoesNotFit, match="control is 2"):
        tiny("residual-memory-transformer", control=2.0).build()
    with pytest.raises(ef.DoesNotFit, match="logits of tokens"):
        residual_memory(tiny("vit").build())
