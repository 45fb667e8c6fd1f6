"""Chunks that small adapters choose: token by token as written, the same as attention under that mask, and what is learnt."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.generation import ChunkAdapters, Chunks, chunkllm, generate
from everyformer.generation.chunks import attended, distilled
from everyformer.masks import Causal, Where
from support.agreement import close, perturb

VOCABULARY, COUNT = 19, 16
IDS = torch.randint(VOCABULARY, (1, COUNT), generator=torch.Generator().manual_seed(2))


def decoder() -> Any:
    made = ef.create("llama", "nano", vocabulary=VOCABULARY, width=16, hidden=24, depth=3, heads=2, key_heads=1, seed=0)
    return perturb(made.eval(), seed=1, std=0.3)


def adapters() -> ChunkAdapters:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ChunkAdapters((16, 16, 16), rank=4).requires_grad_(False)


def seen_by(made: Any, small: ChunkAdapters, room: float) -> tuple[torch.Tensor, int]:
    """Which tokens each query sees, written out token by token, and how many choices were made."""
    seen, held, chunk_of, ends, choices = torch.zeros(COUNT, COUNT, dtype=torch.bool), [], [], [], 0
    for t in range(COUNT):
        held.append(t)
        seen[t, held] = True
        table = seen | torch.eye(COUNT, dtype=torch.bool)
        model = ef.resize(made, "backbone.mask", Causal() & Where(lambda q, k, table=table: table[q, k]))
        layers = [each.tokens.values[0] for each in attended(model, IDS[:, : t + 1])]
        chunk_of.append(len(ends))
        if float(small.end(layers[1][t])) <= 0:
            continue
        ends.append(t)
        choices += 1
        among = [end for end in ends if end in held]
        most = max(1, round(room * len(ends))) if isinstance(room, float) else room
        votes, weight = dict.fromkeys(among, 0), dict.fromkeys(among, 0.0)
        for x, query, key in zip(layers, small.query, small.key, strict=True):
            row = torch.stack([query(x[t]) @ key(x[end]) / 2 for end in among]).softmax(0).tolist()
            for end in sorted(among, key=dict(zip(among, row, strict=True)).get, reverse=True)[:most]:
                votes[end] += 1
            for end, each in zip(among, row, strict=True):
                weight[end] += each
        chosen = sorted(among, key=lambda end: (votes[end], weight[end]), reverse=True)[:most]
        held = [each for each in held if any(chunk_of[each] == chunk_of[end] for end in chosen)]
    return seen, choices


@pytest.mark.parametrize("keep", [0.5, 2])
@torch.no_grad()
def test_what_is_read_token_by_token_is_attention_under_the_mask_of_what_was_chosen(keep: float) -> None:
    made, small = decoder(), adapters()
    seen, choices = seen_by(decoder(), small, keep)
    assert choices > 3
    assert int(seen.sum()) < COUNT * (COUNT + 1) // 2 - 10, "something is dropped"
    wanted = ef.resize(decoder(), "backbone.mask", Causal() & Where(lambda q, k: seen[q, k]))(IDS)
    context = Context(cache=Cache(Chunks(adapters=small, keep=keep)))
    found = torch.cat([made.decode(each, context) for each in IDS.split(1, 1)], 1)
    close(found, wanted)


@torch.no_grad()
def test_nothing_is_dropped_between_ends_and_padding_ends_nothing() -> None:
    made, small = decoder(), adapters()
    policy = Chunks(adapters=small, keep=1)
    context, counts, ends = Context(cache=Cache(policy)), [], []
    handle = small.end.register_forward_hook(lambda _, __, out: ends.append(bool(out[0, -1, 0] > 0)))
    for each in IDS.split(1, 1):
        made.decode(each, context)
        counts.append(context.cache.count)
    handle.remove()
    grown = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    assert all(more == 1 for more, end in zip(grown, ends, strict=True) if not end)
    assert any(more < 1 for more in grown)
    prompts = [IDS[0].tolist(), IDS[0, :5].tolist(), IDS[0, 3:12].tolist()]
    options = {"eos": None, "pad": 0, "max_tokens": 8, "policy": policy}
    assert generate(made, prompts, **options) == [generate(made, [each], **options)[0] for each in prompts]


def test_the_loss_is_that_of_ends_and_of_the_chunks_that_the_layers_attend_to() -> None:
    made, small = decoder(), adapters()
    ends = torch.zeros(1, COUNT, dtype=torch.bool)
    ends[0, [3, 7, 8, 13]] = True
    layers, total, count = attended(made, IDS), 0.0, 0
    chunks = [range(4), range(4, 8), range(8, 9), range(9, 14)]
    for i, layer in enumerate(layers):
        x, weights = layer.tokens.values[0], layer.weights()[0].mean(0)
        for row, t in enumerate((3, 7, 8, 13)):
            told = torch.stack([weights[t, list(chunk)].sum() for chunk in chunks[: row + 1]])
            assert told.sum() == pytest.approx(1, abs=1e-5)
            said = torch.stack([small.query[i](x[t]) @ small.key[i](x[c[-1]]) / 2 for c in chunks[: row + 1]])
            total, count = total + float((told * (told.log() - said.log_softmax(0))).sum()), count + 1
    p = torch.sigmoid(small.end(layers[1].tokens.values[0])[:, 0])
    wanted = -torch.where(ends[0], p.log(), (1 - p).log()).mean() + total / count
    close(distilled(small, layers, ends), wanted)


def test_adapters_learn_and_the_model_stays() -> None:
    made = decoder()
    before = {name: each.clone() for name, each in made.state_dict().items()}
    texts = [torch.randint(VOCABULARY, (4, COUNT), generator=torch.Generator().manual_seed(i)) for i in range(2)]
    losses = []
    for steps in (1, 40):
        policy = chunkllm(made, texts, lambda ids: ids < 4, steps=steps, lr=1e-2, rank=4)
        losses.append(float(distilled(policy.adapters, attended(made, texts[0]), texts[0] < 4)))
    assert losses[1] < 0.7 * losses[0]
    assert all(torch.equal(each, before[name]) for name, each in made.state_dict().items())
    assert all(each.grad is None for each in made.parameters())


def test_what_does_not_fit_is_told() -> None:
    made = decoder()
    for keep in (0, 1.5):
        with pytest.raises(ef.BadInput, match="share of the chunks"):
            Chunks(adapters=adapters(), keep=keep)
    with pytest.raises(ef.BadInput, match="2 layers or more"):
        ChunkAdapters((16,))
    with pytest.raises(ef.BadInput, match="no token that ends"):
        chunkllm(made, [IDS], lambda ids: ids < 0)
    with pytest.raises(ef.BadInput, match="1 step or more"):
        chunkllm(made, [], lambda ids: ids < 4)
    with pytest.raises(ef.DoesNotFit, match="adapters for 2 layers"):
        generate(made, IDS, eos=None, pad=0, max_tokens=2, policy=Chunks(adapters=ChunkAdapters((16, 16))))
