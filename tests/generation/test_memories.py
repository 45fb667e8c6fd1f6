"""A source of which cross-attention keeps some: nothing lost where all is kept, and what goes is what was least attended to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.generation import AttendedSource, Beam, Greedy, generate
from support.agreement import close, perturb

SOURCES = [[5, 3, 8, 9, 2, 7], [4, 6, 11]]
OPTIONS: dict[str, Any] = {"bos": 1, "eos": 2, "pad": 0, "max_tokens": 9}


def model(heads: int = 4, depth: int = 2) -> Any:
    made = ef.create("transformer", vocabulary=13, width=16, hidden=24, depth=depth, heads=heads, seed=0)
    return perturb(made.eval(), seed=1, std=0.4)


@pytest.mark.parametrize("strategy", [Greedy(), Beam(size=3)])
def test_all_kept_changes_nothing(strategy: Any) -> None:
    made = model()
    wanted = generate(made, SOURCES, strategy=strategy, **OPTIONS)
    assert generate(made, SOURCES, strategy=strategy, memories=AttendedSource(keep=1.0, after=2), **OPTIONS) == wanted
    assert generate(made, SOURCES, strategy=strategy, memories=AttendedSource(keep=6, after=1), **OPTIONS) == wanted
    each = [
        generate(made, [source], strategy=strategy, memories=AttendedSource(keep=0.5), **OPTIONS)[0]
        for source in SOURCES
    ]
    assert generate(made, SOURCES, strategy=strategy, memories=AttendedSource(keep=0.5), **OPTIONS) == each


@torch.no_grad()
def test_what_stays_is_what_received_most() -> None:
    """One head, one layer: from then on the logits are those of a source in which the others are masked."""
    made = model(heads=1, depth=1)
    mixer, weights = made.decoder.blocks[0].cross[0], []
    source, target = torch.tensor([SOURCES[0]]), torch.randint(13, (1, 7), generator=torch.Generator().manual_seed(0))
    handle = mixer.weights.register_forward_hook(lambda _, __, value: weights.append(value))
    plain = made.prepare(source, Context(cache=Cache()))
    for token in target[:, :3].split(1, 1):
        made.decode(token, plain)
    handle.remove()
    received = torch.cat(weights, 2).sum((0, 1, 2))
    kept = torch.zeros(1, 6, dtype=torch.bool).index_fill(1, received.topk(3).indices, True)
    plain.cache.states.clear()
    plain.memory["encoder"] = plain.memory["encoder"].replace(mask=kept)
    wanted = [made.decode(token, plain) for token in target[:, 3:].split(1, 1)]
    ours = made.prepare(source, Context(cache=Cache(memories=AttendedSource(keep=0.5, after=3))))
    before = 0
    for token in target[:, :3].split(1, 1):
        made.decode(token, ours)
        before = max(before, ours.cache.states[mixer]["key"].shape[2])
    assert (before, ours.cache.states[mixer]["key"].shape[2]) == (6, 3)
    close(torch.cat([made.decode(token, ours) for token in target[:, 3:].split(1, 1)], 1), torch.cat(wanted, 1))


def test_what_cannot_be_is_told() -> None:
    for options in ({"keep": 0.0}, {"keep": 1.5}, {"after": 0}):
        with pytest.raises(ef.BadInput, match="keep is a share above 0"):
            AttendedSource(**options)
    gpt = ef.create("gpt", vocabulary=13, width=16, depth=1, heads=2, length=8)
    with pytest.raises(ef.BadInput, match="has no memory to drop tokens of"):
        generate(gpt, [[1]], eos=2, pad=0, max_tokens=2, memories=AttendedSource())
    sinking = ef.resize(model(), "decoder.blocks.*.cross.0.normaliser", ef.spec(ef.scores.Sink))
    with pytest.raises(ef.DoesNotFit, match="Sink changes what a memory receives"):
        generate(sinking, SOURCES, memories=AttendedSource(), **OPTIONS)
