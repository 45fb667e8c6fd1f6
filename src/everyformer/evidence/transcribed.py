"""Evidence for encoders of speech: spoken digits in a row, transcribed with CTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import everyformer as ef
from everyformer.data import find_task
from everyformer.data.draws import uniform
from everyformer.data.tasks.audio import AudioClassification
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.resources import gates
from everyformer.generation import transcribe
from everyformer.objectives import CTC
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.recipe import load_recipe

_STEPS = 600
_BATCH = 32
_COST = 0.3
_LONGEST = 4


class InARow:
    """Two to four spoken digits, one right after the other, and their names, numbered from 1."""

    def __init__(self) -> None:
        task = find_task("audio-classification").open(**load_recipe("spoken_digits").data)
        assert isinstance(task, AudioClassification)
        self.task = task

    def batch(self, split: str, rows: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, T, F), `mask` and `labels` (B, 4): the recording of each row, and others that are drawn."""
        drawn = uniform(seed, rows, _LONGEST)
        counts = 2 + (drawn[:, 0] * (_LONGEST - 1)).long()
        others = (drawn[:, 1:] * self.task.size(split)).long()
        chosen = torch.cat((torch.tensor(rows)[:, None], others), 1)
        real = torch.arange(_LONGEST) < counts[:, None]
        each = self.task.batch(split, chosen[real].tolist(), train=train, seed=seed)
        heard = [sound[(sound - self.task.silence).abs().amax(1) > 1e-3] for sound in each["inputs"]]
        joined = [torch.cat(one) for one in _cut(heard, counts.tolist())]
        lengths = torch.tensor([len(one) for one in joined])
        inputs = pad_sequence(joined, batch_first=True)
        labels = torch.full(real.shape, IGNORED).masked_scatter(real, each[LABELS] + 1)
        return {"inputs": inputs, "mask": torch.arange(inputs.shape[1]) < lengths[:, None], LABELS: labels}


def _cut(sounds: list[Tensor], counts: list[int]) -> list[list[Tensor]]:
    """The sounds in groups of so many."""
    return [sounds[end - count : end] for end, count in zip(accumulate(counts), counts, strict=True)]


def slips(said: Sequence[int], meant: Sequence[int]) -> int:
    """How many insertions, deletions and exchanges part two transcripts (Levenshtein, 1966)."""
    row = list(range(len(meant) + 1))
    for i, one in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(meant, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


@cache
def _digits() -> InARow:
    return InARow()


@cache
def transcribed(cost: float, depth: int = 6, *, always: bool = False) -> dict[str, float]:
    """Of the test recordings, the share of digits that an encoder gets wrong and the share of its layers that run; its gates
    learn at a cost, or `always` let everything pass.
    """
    data = _digits()
    design = ef.design("i3d", "digits", depth=depth, cost=cost)
    design = design.set("head", ef.spec(ef.heads.TokenHead, vocabulary=11, bias=True))
    if always:
        design = design.set("backbone.blocks.*.router.opening", 100.0)
    model: Any = design.build(seed=0)
    size = data.task.size("train")
    rows = torch.randperm(size, generator=torch.Generator().manual_seed(0)).tolist()

    def batch(step: int) -> dict[str, Tensor]:
        return data.batch("train", [rows[(_BATCH * step + i) % size] for i in range(_BATCH)], train=True, seed=step)

    learn(model, CTC(), batch, _STEPS, lr=2e-3, rate=warmed(100), weight_decay=0.05, clip=1.0)
    asked = data.batch("test", range(data.task.size("test")))
    with gates(model) as kept:
        said = transcribe(model, asked["inputs"], mask=asked["mask"])
    meant = [[each for each in row if each != IGNORED] for row in asked[LABELS].tolist()]
    wrong = sum(slips(ours, theirs) for ours, theirs in zip(said, meant, strict=True))
    return {"errors": wrong / sum(map(len, meant)), "share": float(torch.cat(kept).mean())}


@evidence(
    "i3d",
    kind="claim",
    claim="Spoken digits in a row are transcribed at no more errors than by a plain encoder of as many layers, both with CTC "
    "(section 3).",
)
def transcribes_for_less() -> Finding:
    """Two to four digits; six layers with gates, and a plain encoder of as many layers as they run, rounded up."""
    gated = transcribed(_COST)
    depth = max(1, math.ceil(6 * gated["share"]))
    plain = transcribed(0.0, depth, always=True)
    finding = (
        f"{gated['errors']:.2%} of the digits wrong with {6 * gated['share']:.1f} of 6 layers; {depth} plain layers "
        f"{plain['errors']:.2%}"
    )
    return Finding(
        verdict(gated["errors"] <= plain["errors"]), finding, {"gated": gated, "plain": plain, "layers": depth}
    )
