"""Columns of a weight changed one by one, each error made up for by the columns to come (Optimal Brain Surgeon)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput

Change = Callable[[int, Float[Tensor, " E"]], Float[Tensor, " E"]]
"""A column of the weight, by its number, as what it becomes."""
Begin = Callable[[int, Float[Tensor, "E C"], Float[Tensor, "C C"]], None]
"""Told of each block of columns before it: the number of the first, the columns, and their part of the factor."""


def moments(inputs: Float[Tensor, "T D"]) -> Float[Tensor, "D D"]:
    """2 X^T X / T, the second derivative of the squared error of a linear map by each row of its weight."""
    inputs = inputs.float()
    return 2 / len(inputs) * inputs.T @ inputs


def factor(hessian: Float[Tensor, "D D"], damp: float) -> Float[Tensor, "D D"]:
    """The upper Cholesky factor of the inverse, `damp` times the mean of the diagonal added to it (GPTQ, section 3.3)."""
    if not damp > 0:
        raise BadInput(f"the Hessian is damped by a positive share of its diagonal; given damp={damp}")
    wide = hessian.double()
    wide = wide + torch.eye(len(wide), dtype=wide.dtype, device=wide.device) * damp * wide.diagonal().mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(wide))
    return torch.linalg.cholesky(inverse, upper=True).to(hessian.dtype)


def compensated(
    weight: Float[Tensor, "E D"],
    inverse: Float[Tensor, "D D"],
    change: Change,
    *,
    block: int = 128,
    begin: Begin | None = None,
) -> Float[Tensor, "E D"]:
    """The weight with every column changed in turn, `inverse` being `factor` of its Hessian (GPTQ, algorithm 1).

    The columns of a block make up for each other at once, those behind it when it ends.
    """
    weight, changed = weight.clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[1], block):
        end = min(start + block, weight.shape[1])
        here, within = weight[:, start:end], inverse[start:end, start:end]
        errors = torch.empty_like(here)
        if begin is not None:
            begin(start, here, within)
        for i in range(end - start):
            column = changed[:, start + i] = change(start + i, here[:, i])
            errors[:, i] = (here[:, i] - column) / within[i, i]
            here[:, i:] -= errors[:, i, None] * within[i, i:]
        weight[:, end:] -= errors @ inverse[start:end, end:]
    return changed
