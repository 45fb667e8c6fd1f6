"""Hidden states moved by what follows: step by step as written, and nothing known before its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import everyformer as ef
from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.generation import read_optimised
from support.agreement import close, perturb

IDS = torch.randint(19, (2, 13), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Any:
    made = ef.create("llama", "nano", vocabulary=19, width=16, hidden=24, depth=2, heads=2, key_heads=1, seed=0)
    return perturb(made.eval(), seed=1, std=0.3)


def test_no_step_is_plain_reading(model: Any) -> None:
    with torch.no_grad():
        wanted = cross_entropy(model(IDS[:, :-1]).mT, IDS[:, 1:], reduction="none")
    read = read_optimised(model, IDS, chunk=4, lr=0.0)
    close(read.losses, wanted)
    assert read.context.cache.count == 12
    assert all(each.grad is None for each in model.parameters())


def test_each_piece_moves_what_is_held_of_those_before(model: Any) -> None:
    """The steps written out: pieces of 4, each key and value by Adam's first step down the loss of the piece."""
    context, found = Context(cache=Cache()), []
    mixers = [block.mixer for block in model.backbone.blocks]
    for start in (0, 4, 8):
        held = {mixer: context.cache.held(mixer) for mixer in mixers} if start else {}
        leaves = [held[mixer][name].detach().clone().requires_grad_() for mixer in held for name in ("key", "value")]
        for mixer, key, value in zip(held, leaves[::2], leaves[1::2], strict=True):
            context.cache.exchange(mixer, key=key, value=value)
        losses = cross_entropy(
            model.decode(IDS[:, start : start + 4], context).mT, IDS[:, start + 1 : start + 5], reduction="none"
        )
        found.append(losses.detach())
        if start:
            losses.sum().backward()
            for mixer, key, value in zip(held, leaves[::2], leaves[1::2], strict=True):
                now = context.cache.held(mixer)
                for name, leaf in (("key", key), ("value", value)):
                    optimiser = torch.optim.Adam([leaf], lr=0.05)
                    optimiser.step()
                    context.cache.exchange(
                        mixer, **{name: torch.cat((leaf.detach(), now[name][:, :, leaf.shape[2] :].detach()), 2)}
                    )
    read = read_optimised(model, IDS, chunk=4, lr=0.05)
    close(read.losses, torch.cat(found, 1))
    plain = read_optimised(model, IDS, chunk=4, lr=0.0)
    assert torch.equal(read.losses[:, :8], plain.losses[:, :8]), "the second piece is read before anything moves"
    assert (read.losses[:, 8:] - plain.losses[:, 8:]).abs().max() > 1e-3


def test_no_token_knows_of_a_later_one(model: Any) -> None:
    other = IDS.clone()
    other[:, 9:] = (other[:, 9:] + 3) % 19
    one, two = (read_optimised(model, ids, chunk=3, lr=0.05).losses for ids in (IDS, other))
    assert torch.equal(one[:, :8], two[:, :8])


def test_what_cannot_be_read_is_told(model: Any) -> None:
    for options in ({"chunk": 0}, {"lr": -1.0}):
        with pytest.raises(ef.BadInput, match="pieces have at least 1 token"):
            read_optimised(model, IDS, **options)
    fourier = ef.swap(
        ef.create("vit", classes=3, image=8, patch=4, width=16, depth=1, heads=2),
        "backbone.blocks.*.mixer",
        ef.spec(ef.mixers.FourierMixer),
    )
    with pytest.raises(ef.DoesNotFit, match="works with none"):
        read_optimised(fourier, IDS)
