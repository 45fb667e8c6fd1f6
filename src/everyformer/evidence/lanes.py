"""Evidence for lanes that are written as sequences, on rendered roads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import everyformer as ef
from everyformer.data.roads import Road, render_road
from everyformer.data.written_lanes import Anchor, Curve, Format, Lane, Polygon, Writer, f1, reward
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.generation import Greedy, Sample, Strategy, generate
from everyformer.objectives import PolicyGradient, SequenceToSequence
from everyformer.objectives.base import IGNORED

_SIDE, _STEPS, _TUNED, _BATCH = 32, 1500, 60, 32
_TRAIN, _TEST = range(1_500), range(50_000, 50_200)
_FORMS: tuple[Format, ...] = (Anchor(4), Polygon(2), Curve(4, degree=2))
_WRITER = Writer(60)
_LONGEST = 3 * (max(form.count for form in _FORMS) + 1) + 1


@cache
def _roads(seeds: range) -> list[Road]:
    return [render_road(seed, side=_SIDE) for seed in seeds]


def _pictures(roads: Sequence[Road]) -> Float[Tensor, "B 3 Y X"]:
    found = torch.from_numpy(np.stack([each.picture for each in roads])).permute(0, 3, 1, 2).float()
    return (found - 128) / 64


def _batch(form: Format, pictures: Tensor, written: Sequence[list[int]]) -> dict[str, Tensor]:
    """Pictures, and what is written about them after the prompt, which has no label."""
    prompt = _WRITER.prompt(form)
    rows = [torch.tensor([*prompt, *each]) for each in written]
    tokens: Int[Tensor, "B N"] = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
    labels = tokens[:, 1:].clone()
    labels[:, 0] = IGNORED
    return {"inputs": pictures, "target": tokens[:, :-1].clamp(min=0), "labels": labels}


@cache
def _first() -> nn.Module:
    """One model of all formats, trained to write what is there; each batch is of one format."""
    model = ef.create(
        "lane2seq", image=_SIDE, patch=4, picture_width=64, picture_depth=2, picture_heads=4, bins=_WRITER.bins,
        length=_LONGEST + 1, width=64, depth=2, heads=4, ratio=2.0, seed=0,
    )  # fmt: skip
    roads, random = _roads(_TRAIN), np.random.default_rng(0)
    pictures = _pictures(roads)
    written = {form: [_WRITER.write(form, each.lanes) for each in roads] for form in _FORMS}

    def batch(step: int) -> dict[str, Tensor]:
        form, chosen = _FORMS[step % len(_FORMS)], random.integers(len(roads), size=_BATCH)
        return _batch(form, pictures[chosen], [written[form][i] for i in chosen])

    return learn(model, SequenceToSequence(), batch, _STEPS, lr=2e-3, rate=warmed(100), clip=1.0)


@cache
def _tuned() -> nn.Module:
    """The same, tuned by what its own draws are worth, each less what another draw is worth."""
    model, roads, random = copy.deepcopy(_first()), _roads(_TRAIN), np.random.default_rng(1)
    pictures, sample = _pictures(roads), Sample()
    torch.manual_seed(0)

    def batch(step: int) -> dict[str, Tensor]:
        form, chosen = _FORMS[step % len(_FORMS)], random.integers(len(roads), size=_BATCH)
        lanes = [roads[i].lanes for i in chosen]
        drawn, other = (_said(model, form, pictures[chosen], sample) for _ in range(2))
        worth = [
            [reward(_WRITER.read(form, a), b) for a, b in zip(each, lanes, strict=True)] for each in (drawn, other)
        ]
        ended = [each if len(each) == _LONGEST else [*each, _WRITER.mark("end")] for each in drawn]
        gains = torch.tensor(worth[0]) - torch.tensor(worth[1])
        return {**_batch(form, pictures[chosen], ended), "gains": gains}

    return learn(model, PolicyGradient(), batch, _TUNED, lr=1e-4, clip=1.0)


def _said(model: nn.Module, form: Format, pictures: Tensor, strategy: Strategy) -> list[list[int]]:
    """What a model writes about pictures in that format, the end left out."""
    options: dict[str, Any] = {"eos": _WRITER.mark("end"), "pad": 0, "max_tokens": _LONGEST, "strategy": strategy}
    return generate(model, pictures, bos=_WRITER.prompt(form), **options)  # type: ignore[arg-type]


@cache
def _scores(tuned: bool) -> dict[str, float]:
    """The F1 of each format on roads that the model has not seen."""
    model, roads = _tuned() if tuned else _first(), _roads(_TEST)
    wanted = [each.lanes for each in roads]
    found = {form: _said(model, form, _pictures(roads), Greedy()) for form in _FORMS}
    return {form.name: f1([_WRITER.read(form, tokens) for tokens in each], wanted) for form, each in found.items()}


def _baseline() -> float:
    """The F1 of always answering with the mean of the roads of so many lanes, as many as are best on the training part."""
    train = [list(each.lanes) for each in _roads(_TRAIN)]
    means = [list(np.mean([lanes for lanes in train if len(lanes) == count], 0)) for count in (1, 2, 3)]
    best: list[Lane] = max(means, key=lambda mean: f1([mean] * len(train), train))
    return f1([best] * len(_TEST), [list(each.lanes) for each in _roads(_TEST)])


def _shown(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items())


@evidence("lane2seq", kind="learns", claim="One model finds lanes in each of three formats, far above the mean road.")
def lane2seq_learns() -> Finding:
    """The prompt alone says which."""
    scores, baseline = _scores(False), _baseline()
    holds = min(scores.values()) > 1.5 * baseline
    finding = f"F1 {_shown(scores)}; the mean road {baseline:.3f}"
    return Finding(verdict(holds), finding, {**scores, "mean road": baseline})


@evidence("lane2seq", kind="claim", claim="Tuning with rewards raises the F1 of every format (section 3).")
def lane2seq_tuned() -> Finding:
    """Some steps more, by what draws are worth."""
    before, after = _scores(False), _scores(True)
    holds = all(after[name] > before[name] for name in before)
    return Finding(verdict(holds), f"F1 {_shown(before)}; tuned {_shown(after)}", {"before": before, "after": after})
