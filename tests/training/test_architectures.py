"""Searching for designs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.errors import BadInput
from everyformer.training.architectures import Space, SuperNetwork, evolve, grouped
from support.agreement import close, perturb

FIXED = {"classes": 3, "image": 28, "channels": 1, "middle": 4, "head_widths": (4, 4), "drop_path": 0.0, "patch": 14}
CHOICES: dict[str, tuple[int, ...]] = {
    "widths.0": (6, 8), "widths.1": (10, 12), "heads.0.0": (1, 2), "heads.0.1": (0, 2), "heads.1.0": (2, 3),
    "hidden.0.0": (4, 8), "hidden.0.1": (0, 8), "hidden.1.0": (6, 12),
}  # fmt: skip


def made(chosen: Any) -> ef.Design:
    """Both of a block or none of it."""
    options = dict(chosen)
    if not (options["heads.0.1"] and options["hidden.0.1"]):
        options |= {"heads.0.1": 0, "hidden.0.1": 0}
    return ef.design("vit-resnas", **FIXED, **grouped(options))


SPACE = Space(made, CHOICES)
SMALL = {name: values[0] for name, values in CHOICES.items()}


def size(design: ef.Design) -> float:
    return float(parameters(on_meta(design)))


def test_names_with_steps_are_tuples_of_tuples() -> None:
    assert grouped({"a.0.1": 2, "a.0.0": 1, "a.1.0": 3, "b.1": 5, "b.0": 4, "c": 6}) == {
        "a": ((1, 2), (3,)), "b": (4, 5), "c": 6,
    }  # fmt: skip


def test_a_part_of_the_network_is_the_smaller_network_with_those_weights() -> None:
    """Also for a batch whose halves go through two of them, with a block and without; the first of heads and channels."""
    whole = perturb(SuperNetwork(SPACE))
    pictures = torch.randn(4, 1, 28, 28)
    alone = [whole.extract(each) for each in (SMALL, SPACE.largest())]
    close(whole(pictures, SMALL), alone[0](pictures))
    together = whole.several(pictures, [SMALL, SPACE.largest()])
    close(together, torch.cat([alone[0](pictures[:2]), alone[1](pictures[2:])]))
    qkv = whole.network.backbone.stages[0].blocks[0].mixer.qkv.weight
    own = alone[0].backbone.stages[0].blocks[0].mixer.qkv.weight
    close(own, qkv.unflatten(0, (3, 2, 4))[:, :1, :, :6].flatten(0, 2))


def test_the_gradients_of_a_part_are_the_networks_own() -> None:
    whole = perturb(SuperNetwork(SPACE))
    whole(torch.randn(2, 1, 28, 28), SMALL).square().sum().backward()
    up = whole.network.backbone.stages[1].blocks[0].feedforward.up.weight.grad
    assert up[:6, :10].abs().min() > 0
    assert not up[6:].any()
    assert not up[:, 10:].any()
    assert whole.network.backbone.stages[0].blocks[1].mixer.qkv.weight.grad is None


def test_evolution_stays_under_the_limit_and_never_gets_worse() -> None:
    """A score that is the cost itself: no candidate is scored twice."""
    space = Space(made, {name: CHOICES[name] if name.startswith("hidden") else CHOICES[name][:1] for name in CHOICES})
    limit, asked = size(made(space.largest())) - 1, []

    def score(chosen: Any) -> float:
        asked.append(tuple(chosen.values()))
        return size(made(chosen))

    drawn = evolve(space, score, limit=limit, cost=size, first=2, generations=0)
    found = evolve(space, score, limit=limit, cost=size, first=2, generations=1, parents=2, children=1)
    assert all(each.cost == each.score <= limit for each in found)
    assert found == sorted(found, key=lambda each: -each.score)
    assert found[0].score >= drawn[0].score
    assert len(set(asked[2:])) == len(asked[2:]) == len(found)


def test_a_limit_that_nothing_keeps_is_told() -> None:
    with pytest.raises(BadInput, match="nothing of 1000 draws costs at most 1;"):
        evolve(
            Space(made, {name: values[:1] for name, values in CHOICES.items()}), lambda chosen: 0.0, limit=1, first=1
        )
