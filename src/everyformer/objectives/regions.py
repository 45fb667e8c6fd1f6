"""Regions in which there is something, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.boxes import centred, corners, overlaps
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.heads.regions import GIVEN, around, moves_to
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes
from everyformer.objectives.heat import focal_terms
from everyformer.registry import part
from everyformer.tokens import Tokens, take


@dataclass(frozen=True)
class Found:
    """What the last look was at."""

    context: Context
    """With the levels of the model."""
    boxes: Float[Tensor, "B N 4"]
    thing: Int[Tensor, "B N"]
    """Which of the things that are there it has most in common with."""
    right: Bool[Tensor, "B N"]
    """Whether that is enough."""


@part("objectives")
class RegionBoxes(Objective):
    """Proposals by heat and generalised IoU, and what each look says of its regions by cross entropy and the differences of
    moves (Wu et al., GRiT, 2022; Zhou et al., CenterNet2, 2021, and Cai and Vasconcelos, 2018, for the two).

    Labels are (B, T, 5) as of `Boxes`; things of all kinds are one. In each look a region is right that has at least as much
    in common with a thing as `shares` says of that look; all count, where the authors draw 512, and the things themselves
    are looked at too. `peaks` and `rest` weigh the heat where the middle of a thing is, and elsewhere, where what is surer
    than `doubted` of a thing that nobody named is let be. Counted by samples, each the mean over its cells or regions.
    """

    def __init__(
        self,
        *,
        shares: tuple[float, ...] = (0.6, 0.7, 0.8),
        peaks: float = 0.125,
        rest: float = 0.375,
        doubted: float = 0.85,
    ) -> None:
        super().__init__()
        self.shares, self.peaks, self.rest, self.doubted = shares, peaks, rest, doubted

    def forward(self, model: nn.Module, batch: Mapping[str, Any]) -> Loss:
        """The loss summed over the samples."""
        labels = batch[LABELS]
        there, boxes = labels[..., 0] != IGNORED, corners(labels[..., 1:])
        context = Context(notes={}, levels={}, memory={GIVEN: Tokens(boxes, mask=there)})
        answer(model, {**batch, "context": context})
        notes = context.notes or {}
        if "looks" not in notes or len(notes["looks"]) != len(self.shares):
            raise DoesNotFit(
                f"a head that looks {len(self.shares)} times at regions, one for each of shares={self.shares}, is needed; "
                "use heads.Regions",
                "head",
            )
        total = self.proposed(notes, boxes, there)
        for number, share in enumerate(self.shares):
            said, looked = notes["looks"][number], notes["boxes"][number]
            thing, right = nearest(looked, boxes, there, share)
            right = right & notes["real"]
            total = total + looks_loss(said, moves_to(looked, take(boxes, thing), number), right, notes["real"])
        total = total + self.beside(model, Found(context, looked, thing, right), labels)
        return Loss(total.sum(), torch.tensor(len(labels), device=labels.device))

    def beside(self, model: nn.Module, found: Found, labels: Float[Tensor, "B T 5"]) -> Float[Tensor, " B"] | float:
        """What else a model is trained by."""
        return 0.0

    def proposed(
        self, notes: Mapping[str, Tensor], boxes: Float[Tensor, "B T 4"], there: Bool[Tensor, "B T"]
    ) -> Float[Tensor, " B"]:
        """The loss of the proposals of each sample."""
        heat, distances = notes["heat"], notes["distances"]
        wanted = targets(boxes, there, notes["cells"])
        right, wrong = focal_terms(heat, wanted.heat)
        wrong = wrong * (heat.sigmoid() < self.doubted)
        hot = self.peaks * (right * wanted.peaks).sum(1) + self.rest * wrong.sum(1)
        unit = distances.new_tensor([[0.0, 0.0, 1.0, 1.0]])
        share, beyond = overlaps(around(unit, distances), around(unit, wanted.distances), smooth=1.0)
        apart = ((1 - share + beyond) * wanted.near).sum(1) / wanted.near.sum(1).clamp(min=1)
        return hot / wanted.peaks.sum(1).clamp(min=1) + apart


@part("objectives")
class DescribedRegions(RegionBoxes):
    """The same, and the cross entropy of what is said of the regions that the last look rightly finds, the text of the thing
    that each shows, with label smoothing (Wu et al., GRiT, 2022, section 3).

    `texts` are the tokens of each class of the labels, from what the describer begins with to what ends it: one thing may be
    of one class for each task, which begins in its own way. The text of a sample is the mean over its tokens.
    """

    def __init__(
        self,
        *,
        texts: tuple[tuple[int, ...], ...],
        smoothing: float = 0.1,
        shares: tuple[float, ...] = (0.6, 0.7, 0.8),
        peaks: float = 0.125,
        rest: float = 0.375,
        doubted: float = 0.85,
    ) -> None:
        super().__init__(shares=shares, peaks=peaks, rest=rest, doubted=doubted)
        if not texts or min(len(each) for each in texts) < 2:
            raise BadInput(f"a text has a beginning and an end at least; given {texts}")
        self.smoothing = smoothing
        rows = [torch.tensor(each) for each in texts]
        self.texts: Tensor
        self.register_buffer("texts", nn.utils.rnn.pad_sequence(rows, True, IGNORED), persistent=False)

    def beside(self, model: nn.Module, found: Found, labels: Float[Tensor, "B T 5"]) -> Float[Tensor, " B"] | float:
        """The loss of the texts of each sample."""
        kinds = labels[..., 0].long()
        check_classes(kinds, len(self.texts))
        if not hasattr(model, "describer"):
            raise DoesNotFit("it describes nothing; use models.Described", "describer")
        shown = model.shown(found.context, found.boxes)[found.right]
        text = self.texts.to(labels.device)[kinds.gather(1, found.thing)[found.right]]
        logits = model.describer(shown, text[:, :-1].clamp(min=0)).float()
        each = F.cross_entropy(
            logits.mT, text[:, 1:], ignore_index=IGNORED, reduction="none", label_smoothing=self.smoothing
        )
        sample = found.right.nonzero()[:, 0]
        totals, counts = labels.new_zeros(2, len(labels)).index_add(
            1, sample, torch.stack((each.sum(1), (text[:, 1:] != IGNORED).sum(1).float()))
        )
        return totals / counts.clamp(min=1)


@dataclass(frozen=True)
class Targets:
    """What the cells of all levels should say."""

    heat: Float[Tensor, "B M"]
    peaks: Int[Tensor, "B M"]
    """Of how many things of the size of its level the middle is in the cell."""
    distances: Float[Tensor, "B M 4"]
    near: Bool[Tensor, "B M"]
    """Whether the cell is to say distances."""


def targets(
    boxes: Float[Tensor, "B T 4"],
    there: Bool[Tensor, "B T"],
    cells: Float[Tensor, "M 4"],
    *,
    sizes: tuple[float, float] = (4.0, 10.0),
    common: float = 0.8,
    least: float = 0.5,
) -> Targets:
    """What cells (middle and size) should say of the things that are there (Zhou et al., CenterNet2, 2021, official code).

    The heat falls off from the cell in which the middle of a thing is, on all levels, as fast as a box moved there loses what
    it has in common with the thing, `common` of it, and at least over `least` cells of the finest level. The 3x3 cells around
    the middle that are inside it say how far its sides are, on those levels where half its diagonal is of `sizes` cells; the
    finest takes smaller ones too, and the coarsest larger ones. Of several things the nearest counts.
    """
    at, side = cells.split(2, -1)
    finest = side.amin(0)
    middle, size = centred(boxes)[:, :, None].split(2, -1)
    half = (size / side).square().sum(-1).sqrt() / 2
    smaller, larger = side[:, 0] == side[:, 0].min(), side[:, 0] == side[:, 0].max()
    fits = ((half >= sizes[0]) | smaller) & ((half <= sizes[1]) | larger) & there[..., None]
    off = ((at - ((middle / side).floor() + 0.5) * side) / side).abs()
    peak = (off < 0.5).all(-1)
    reach = 2 * ((1 - common) / (1 + common)) ** 2 * (size / finest).prod(-1)
    apart = ((at - middle) / finest).square().sum(-1).masked_fill(peak, 0.0) / reach.clamp(min=least**2)
    apart = apart.masked_fill(~there[..., None], float("inf"))
    heat = torch.exp(-apart.amin(1))
    distances = torch.cat(((at - boxes[:, :, None, :2]) / side, (boxes[:, :, None, 2:] - at) / side), -1)
    near = (off < 1.5).all(-1) & (distances.amin(-1) > 0) & fits
    nearest = apart.masked_fill(~near, float("inf")).argmin(1)
    chosen = distances.gather(1, nearest[:, None, :, None].expand(-1, 1, -1, 4))[:, 0]
    return Targets(heat * (heat >= 1e-4), (peak & fits).sum(1), chosen, near.any(1))


def nearest(
    looked: Float[Tensor, "B N 4"], boxes: Float[Tensor, "B T 4"], there: Bool[Tensor, "B T"], share: float
) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """Which thing each region has most in common with, and whether that is at least `share` of their union."""
    common = overlaps(looked[:, :, None], boxes[:, None])[0].masked_fill(~there[:, None], -1.0)
    most, thing = common.max(-1)
    return thing, most >= share


def looks_loss(
    said: Float[Tensor, "B N 6"], moves: Float[Tensor, "B N 4"], right: Bool[Tensor, "B N"], real: Bool[Tensor, "B N"]
) -> Float[Tensor, " B"]:
    """The cross entropy of there being a thing or none, and the differences of the moves where there is one."""
    entropy = F.cross_entropy(said[..., :2].mT, (~right).long(), reduction="none")
    apart = torch.where(right[..., None], said[..., 2:] - moves, 0.0).abs().sum(-1)
    return ((entropy + apart) * real).sum(1) / real.sum(1).clamp(min=1)
