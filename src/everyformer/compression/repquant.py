"""RepQuant (Li et al., 2024): round with the accurate quantizer, run with the simple one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.calibration import BLOCKS, Calibration, Seen, batches_of, exchanged, linears, stream
from everyformer.compression.compensation import moments
from everyformer.compression.gptq import rounded
from everyformer.compression.grid import Grid, check
from everyformer.compression.inputs import Fixed
from everyformer.compression.migration import migrated
from everyformer.compression.quantized import Quantized
from everyformer.designs import design_of
from everyformer.edits import resize
from everyformer.errors import BadInput
from everyformer.registry import method
from everyformer.scores import LogRounded
from everyformer.specs import signature, spec

RATE = 0.1
"""Of learning the clips."""


@method(
    "repquant",
    title="RepQuant: Towards Accurate Post-Training Quantization of Large Transformer Models via Scale Reparameterization",
    authors="Li et al.",
    year=2024,
    arxiv="2402.05628",
    idea="Round channels behind a norm each on its own scale, then let norm and weights take the scales over, so that one "
    "scale for all gives the same whole numbers; the weights of softmax in steps of half an octave.",
)
def repquant(
    model: nn.Module, calibration: Calibration, *, bits: int = 4, steps: int = 50, paths: str = BLOCKS
) -> nn.Module:
    """A copy of the model with weights and inputs of the maps at `paths`, and the weights of its attention, in `bits`.

    The reach of each channel behind a norm is clipped where `steps` of gradient descent on the output of what reads it say;
    weights are rounded column by column on the rounded inputs, as by GPTQ.
    """
    check(bits)
    if steps < 0:
        raise BadInput(f"clips are learnt for no steps or some; given {steps}")
    batches = batches_of(calibration, model)
    made, maps, found, seen = migrated(with_rounded_weights(model, paths, bits), batches, paths)
    grids: dict[str, Grid] = {}
    for fold in found:
        if not fold.normed or fold.readers[0] not in seen:
            continue
        here, kind = seen[fold.readers[0]], maps[fold.readers[0]].weight.dtype
        weight = torch.cat([maps[path].weight for path in fold.readers]).detach().float()
        low, high = clips(weight, here, bits, steps, together=not fold.shifts(maps))
        scale, shift, grid = reparameterised(Grid.between(low, high, bits))
        fold.apply(maps, scale.to(kind), shift.to(kind) if fold.shifts(maps) else None)
        grids |= dict.fromkeys(fold.readers, grid)
    plain = {path: each.weight.detach().float() for path, each in maps.items()}
    made, forms = exchanged(made, paths, spec(Quantized, bits=bits, group="channel", rounded=spec(Fixed, bits=bits)))
    for path, form in forms.items():
        if path in grids:
            form.rounded.put(grids[path])
        elif path in seen:
            form.rounded.fit(seen[path].low, seen[path].high)
    for path, inputs in stream(made, batches, forms):
        forms[path].put(*rounded(plain[path], moments(forms[path].rounded(inputs)), bits, "channel"))
    return made


def with_rounded_weights(model: nn.Module, paths: str, bits: int) -> nn.Module:
    """A copy of the model whose attention, where its maps are at `paths`, rounds the weights that it takes values with."""
    made: Any = copy.deepcopy(model)
    holders = {path.rpartition(".")[0] for path in linears(made, paths)}
    for path, each in design_of(made).walk():
        if path in holders and "steps" in signature(each.part):
            resize(made, f"{path}.steps", (*each.get("steps"), spec(LogRounded, bits=bits)))
    return made


def reparameterised(grid: Grid) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"], Grid]:
    """Of a grid of channels the mean one, and by what to scale and shift what is rounded.

    (x - shift) / scale has on the mean grid the whole numbers that x has on its own.
    """
    assert grid.zero is not None
    mean = Grid(grid.scale.mean()[None], grid.zero.mean().round()[None], grid.bits)
    return grid.scale / mean.scale, grid.scale * (mean.zero - grid.zero), mean  # type: ignore[operator]


@torch.enable_grad()
def clips(
    weight: Float[Tensor, "E D"], seen: Seen, bits: int, steps: int, *, together: bool = False
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """The least and largest value of each channel that a grid is to reach, by gradient descent on the error of W x.

    A share of each end, the sigmoid of a learnt number, is kept (learnable dual clipping); of both ends the
    larger where the middle cannot be moved.
    """
    low, high = (-seen.reach, seen.reach) if together else (seen.low, seen.high)
    shares = torch.full((2, len(low)), 4.0, device=low.device, requires_grad=True)
    adam = torch.optim.Adam([shares], RATE)
    wanted, best, least = seen.some @ weight.T, (low, high), float("inf")
    for step in range(steps + 1):
        kept = shares.sigmoid() / torch.full((), 4.0).sigmoid()
        ends = (low * (kept[1] if together else kept[0]), high * kept[1])
        error = (straight_through(seen.some, *ends, bits) @ weight.T - wanted).square().mean()
        if float(error) < least:
            best, least = (ends[0].detach(), ends[1].detach()), float(error)
        if step < steps:
            adam.zero_grad()
            error.backward()
            adam.step()
    return best


def straight_through(
    values: Float[Tensor, "T D"], low: Float[Tensor, " D"], high: Float[Tensor, " D"], bits: int
) -> Float[Tensor, "T D"]:
    """Values rounded to the grid between `low` and `high`: a value inside passes its gradient on, one outside that of the end."""
    grid = Grid.between(low, high, bits)
    nearest = grid.values(grid.codes(values)).detach()
    inside = torch.maximum(torch.minimum(values, high), low)
    return inside + (nearest - inside).detach()
