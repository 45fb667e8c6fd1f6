"""`masformer` against Hugging Face's GPT-Neo, `transformer-xl` against its equations written out."""

import pytest
import torch
from torch.nn import functional as F
from transformers import GPTNeoConfig, GPTNeoForCausalLM

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.generation import Sinks
from everyformer.interop.weights import fill, layer, tensors
from everyformer.masks import Causal, Full
from support.parity import agree, ids, perturb, ragged
from support.parts import close, make, tokens


def neo_pairs(depth):
    table = layer("embedding.table", "transformer.wte", bias=False)
    table += layer("embedding.positions.table", "transformer.wpe", bias=False)
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"transformer.h.{i}"
        own = f"{theirs}.attn.attention"
        table += layer(f"{ours}.mixer.qkv", *(f"{own}.{n}_proj" for n in "qkv"), bias=False)
        table += layer(f"{ours}.mixer.output", f"{own}.out_proj")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.ln_1") + layer(f"{ours}.residual.1.norm", f"{theirs}.ln_2")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.mlp.c_fc")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.mlp.c_proj")
    return table + layer("backbone.norm", "transformer.ln_f")


def test_masformer_equals_gpt_neo():
    config = GPTNeoConfig(
        vocab_size=61, hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48, max_position_embeddings=30,
        attention_types=[[["global", "local"], 1]], window_size=5, attention_dropout=0.0, embed_dropout=0.0,
        resid_dropout=0.0,
    )  # fmt: skip
    theirs = perturb(GPTNeoForCausalLM(config))
    ours = ef.create(
        "masformer", vocabulary=61, width=32, hidden=48, depth=2, heads=4, length=30, full=(0,), span=5
    ).eval()
    fill(ours, neo_pairs(2), tensors(theirs))
    inputs, mask = ids(61, 3, 20), ragged(3, 20)
    agree(
        ours, theirs, neo_pairs(2), ours(inputs, mask=mask), theirs(inputs, attention_mask=mask.long()).logits, mask
    )  # fmt: skip


def test_masformer_has_gpt_neos_size():
    assert parameters(on_meta(ef.design("masformer", "1.3b", length=2048))) == 1_315_575_808


@pytest.mark.parametrize(("full", "seen"), [((), 2 * 4 + 1), ((0,), 20), ((1,), 20)], ids=str)
def test_how_far_masformer_sees(full, seen):
    """Two layers of span 5 reach 2 (5 - 1) + 1 tokens; one full layer reaches all."""
    model = ef.create("masformer", vocabulary=11, width=16, depth=2, heads=2, length=20, full=full, span=5).eval()
    embedded = model.embedding(ids(11, 1, 20))
    values = embedded.values.detach().requires_grad_()
    model.backbone(embedded.update(values)).values[0, -1].square().sum().backward()
    assert (values.grad[0].abs().sum(-1) > 0).sum() == seen


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="layers from 0 to 1; given"):
        ef.design("masformer", depth=2, full=(2,))


def expectations(q, k, v, segment, causal):
    """The matrix of all weights (section 3.2): p(j) of the own segment, p(segment) p(j in it) of the others."""
    count, weights = len(q), torch.zeros(len(q), len(q))
    spans = [range(start, min(start + segment, count)) for start in range(0, count, segment)]
    for i in range(count):
        own = i // segment
        direct = [j for j in spans[own] if j <= i or not causal]
        through = [r for r in range(len(spans)) if (r < own if causal else r != own)]
        logits = [q[i] @ k[j] for j in direct] + [q[i] @ k[list(spans[r])].amax(0) for r in through]
        shares = torch.stack(logits).softmax(0)
        for share, j in zip(shares, direct):
            weights[i, j] = share
        for share, r in zip(shares[len(direct) :], through, strict=True):
            inside = (k[list(spans[r])] @ q[list(spans[r])].amax(0)).softmax(0)
            weights[i, list(spans[r])] = share * inside
    return weights


@pytest.mark.parametrize("mask", [Causal(), Full()], ids=str)
@pytest.mark.parametrize("count", [12, 10, 3])
def test_combiner_is_its_expectations(count, mask):
    mixer = make("mixers.CombinerAttention", heads=1, segment=4)
    values = tokens(count, batch=1)
    q, k, v = mixer.qkv(values.values)[0].chunk(3, -1)
    causal = isinstance(mask, Causal)
    weights = expectations(q * 32**-0.5, k, v, 4, causal)
    close(weights.sum(-1), torch.ones(count))
    assert (weights > 0).equal(torch.ones(count, count).tril() > 0 if causal else torch.ones(count, count) > 0)
    close(mixer(values, Context(mask=mask))[0], mixer.output(weights @ v))


@pytest.mark.parametrize("mask", [Causal(), Full()], ids=str)
@pytest.mark.parametrize("segment", [1, 11])
def test_combiner_with_one_segment_or_segments_of_one_is_attention(segment, mask):
    mixer = make("mixers.CombinerAttention", heads=4, segment=segment)
    plain = ef.mixers.Attention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    close(mixer(tokens(11), Context(mask=mask)), plain(tokens(11), Context(mask=mask)))


def literal(p, ids, segment, memory, heads=4, depth=2, farthest=14):
    """Section 3.3, a segment at a time: R_(i - j) for every pair, four terms, states of the segments before as memory."""
    table = p["embedding.table.weight"]
    width = table.shape[1]
    held = [table.new_zeros(0, width) for _ in range(depth)]
    logits = []

    def sinusoid(distance):
        angles = distance / 10000 ** (torch.arange(0, width, 2) / width)
        return torch.cat((angles.sin(), angles.cos()))

    for part in ids.split(segment):
        h = table[part] * width**0.5
        for n in range(depth):
            name = f"backbone.blocks.{n}"
            w_q, w_k, w_v = p[f"{name}.mixer.qkv.weight"].chunk(3)
            w_r = p[f"{name}.mixer.positions.project.weight"]
            u = p[f"{name}.mixer.steps.0.vector.weight"].flatten()
            v = p[f"{name}.mixer.positions.vector.weight"].flatten()
            both = torch.cat((held[n].detach(), h))
            rows = []
            for i in range(len(part)):
                at = len(held[n]) + i
                answer = []
                for head in range(heads):
                    own = slice(head * width // heads, (head + 1) * width // heads)
                    q = (w_q @ h[i])[own]
                    scores = []
                    for j in range(at + 1):
                        k = (w_k @ both[j])[own]
                        r = (w_r @ sinusoid(min(at - j, farthest)))[own]
                        scores.append((q @ k + q @ r + u[own] @ k + v[own] @ r) / (width / heads) ** 0.5)
                    weights = torch.stack(scores).softmax(0)
                    answer.append(sum(weights[j] * (w_v @ both[j])[own] for j in range(at + 1)))
                rows.append(torch.cat(answer))
            a = torch.stack(rows) @ p[f"{name}.mixer.output.weight"].T
            held[n] = torch.cat((held[n], h))[-memory:]
            norms = [(p[f"{name}.residual.{k}.norm.weight"], p[f"{name}.residual.{k}.norm.bias"]) for k in (0, 1)]
            h = F.layer_norm(h + a, (width,), *norms[0])
            up, down = (
                (p[f"{name}.feedforward.{x}.weight"], p[f"{name}.feedforward.{x}.bias"]) for x in ("up", "down")
            )
            h = F.layer_norm(h + F.linear(F.linear(h, *up).relu(), *down), (width,), *norms[1])
        logits.append(F.linear(h, table, p["head.project.bias"]))
    return torch.cat(logits)


@pytest.mark.parametrize("memory", [3, 7])
def test_transformer_xl_is_its_equations(memory):
    """Three segments, the memory shorter and longer than one; gradients stop at the memory in both."""
    model = perturb(
        ef.create("transformer-xl", vocabulary=13, width=16, hidden=24, depth=2, heads=4, memory=7, dropout=0.0)
    )
    inputs, cache = ids(13, 1, 10), Cache(Sinks(sinks=0, window=memory))
    answers = torch.cat([model.decode(each, Context(cache=cache)) for each in inputs.split(4, 1)], 1)[0]
    named = tensors(model)
    expected = literal(named, inputs[0], 4, memory)
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=0)
    weights = torch.randn(answers.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((answers * weights).sum(), list(named.values()))
    wanted = torch.autograd.grad((expected * weights).sum(), list(named.values()))
    for name, one, other in zip(named, found, wanted, strict=True):
        assert other.abs().max() > 1e-4, name
        torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, other.abs().max().item()), rtol=0, msg=name)


@pytest.mark.parametrize(("size", "count"), [("enwik8", 41e6), ("enwik8-large", 277e6)])
def test_transformer_xl_has_the_published_sizes(size, count):
    assert parameters(on_meta(ef.design("transformer-xl", size))) == pytest.approx(count, rel=0.01)
