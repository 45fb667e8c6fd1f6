"""GPTQ (Frantar et al., 2023)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.calibration import BLOCKS, Calibration, batches_of, exchanged, linears, stream
from everyformer.compression.compensation import compensated, factor, moments
from everyformer.compression.grid import Grid, Group, fit
from everyformer.compression.quantized import Quantized
from everyformer.registry import method
from everyformer.specs import spec


@method(
    "gptq",
    title="GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
    authors="Frantar et al.",
    year=2023,
    arxiv="2210.17323",
    idea="Round a weight column by column, and let the columns to come make up for the error on the data.",
)
def gptq(
    model: nn.Module,
    calibration: Calibration,
    *,
    bits: int = 4,
    group: int | str = 128,
    symmetric: bool = False,
    act_order: bool = False,
    damp: float = 0.01,
    paths: str = BLOCKS,
) -> nn.Module:
    """Algorithm 1, map after map, each on what the maps already rounded give it: a copy of the model.

    `act_order` begins with the columns of the largest inputs; the scales of groups are then those of the weight as it was.
    """
    batches = batches_of(calibration, model)
    given = linears(model, paths)
    made, maps = exchanged(model, paths, spec(Quantized, bits=bits, group=group, symmetric=symmetric))
    for path, inputs in stream(made, batches, maps):
        weight = given[path].weight.detach().float()  # type: ignore[operator, union-attr]
        maps[path].put(
            *rounded(weight, moments(inputs), bits, group, symmetric=symmetric, act_order=act_order, damp=damp)
        )
    return made


@torch.no_grad()
def rounded(
    weight: Float[Tensor, "E D"],
    hessian: Float[Tensor, "D D"],
    bits: int,
    group: Group,
    *,
    symmetric: bool = False,
    act_order: bool = False,
    damp: float = 0.01,
) -> tuple[Float[Tensor, "E D"], Grid]:
    """The codes of a weight and the grid of its groups, for inputs of this second moment."""
    dead = hessian.diagonal() == 0
    weight, hessian = weight.masked_fill(dead, 0.0), hessian + torch.diag(dead.to(hessian.dtype))
    order = hessian.diagonal().argsort(descending=True) if act_order else torch.arange(len(dead), device=dead.device)
    grid = fit(weight, bits, group, symmetric=symmetric)

    def begin(start: int, columns: Tensor, _: Tensor) -> None:
        """The scale of a group is that of its columns as they are when it begins."""
        fresh = fit(columns, bits, "channel", symmetric=symmetric)
        grid.column(start, group).put(fresh.column(0, "channel"))

    fresh = isinstance(group, int) and not act_order
    changed = compensated(
        weight[:, order], factor(hessian[order][:, order], damp),
        lambda i, column: grid.column(int(order[i]), group).round(column),
        block=group if fresh else 128, begin=begin if fresh else None,
    )  # fmt: skip
    return grid.columns(group, len(dead)).codes(changed[:, order.argsort()]), grid
