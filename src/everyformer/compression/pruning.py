"""Methods that leave single weights out: which ones, and what makes up for them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.compression.calibration import BLOCKS, Calibration, batches_of, exchanged, linears, stream
from everyformer.compression.compensation import compensated, factor, moments
from everyformer.compression.sparse import Sparse, largest
from everyformer.errors import BadInput
from everyformer.registry import method
from everyformer.specs import spec


def highest(scores: Float[Tensor, "E D"], sparsity: float, of: int | None) -> Bool[Tensor, "E D"]:
    """The best of each row, or of every `of` neighbours in it."""
    if of is None:
        return largest(scores, round((1 - sparsity) * scores.shape[1]))
    return largest(scores.reshape(-1, of), round((1 - sparsity) * of)).view(scores.shape)


@method(
    "wanda",
    title="A Simple and Effective Pruning Approach for Large Language Models",
    authors="Sun et al.",
    year=2024,
    arxiv="2306.11695",
    idea="Leave out of each output the weights whose size times the norm of their input is least.",
)
@torch.no_grad()
def wanda(
    model: nn.Module, calibration: Calibration, *, sparsity: float = 0.5, of: int | None = None, paths: str = BLOCKS
) -> nn.Module:
    """Equation 1, map after map, each on what the maps already pruned give it: a copy of the model.

    `of=4` leaves out of every 4 neighbours (2:4 at a sparsity of one half).
    """
    given, made, maps = _sparse(model, sparsity, of, paths)
    for path, inputs in stream(made, batches_of(calibration, model), maps):
        weight = given[path].weight.detach()  # type: ignore[union-attr]
        maps[path].put(weight, highest(importance(weight, inputs), sparsity, of))
    return made


def importance(weight: Float[Tensor, "E D"], inputs: Float[Tensor, "T D"]) -> Float[Tensor, "E D"]:
    """|W| times the norm of each input (Wanda, equation 1)."""
    return weight.abs().float() * inputs.float().norm(dim=0)


@method(
    "sparsegpt",
    title="SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
    authors="Frantar and Alistarh",
    year=2023,
    arxiv="2301.00774",
    idea="Leave weights out column by column, and let the columns to come make up for the error on the data.",
)
@torch.no_grad()
def sparsegpt(
    model: nn.Module,
    calibration: Calibration,
    *,
    sparsity: float = 0.5,
    of: int | None = None,
    damp: float = 0.01,
    paths: str = BLOCKS,
) -> nn.Module:
    """Algorithm 1, map after map, each on what the maps already pruned give it: a copy of the model."""
    given, made, maps = _sparse(model, sparsity, of, paths)
    for path, inputs in stream(made, batches_of(calibration, model), maps):
        weight = given[path].weight.detach().float()  # type: ignore[union-attr]
        maps[path].put(*pruned(weight, moments(inputs), sparsity, of, damp=damp))
    return made


@torch.no_grad()
def pruned(
    weight: Float[Tensor, "E D"],
    hessian: Float[Tensor, "D D"],
    sparsity: float,
    of: int | None = None,
    *,
    damp: float = 0.01,
) -> tuple[Float[Tensor, "E D"], Bool[Tensor, "E D"]]:
    """The weight with what made up for it, and which of it is kept, for inputs of this second moment.

    Of a block of 128 columns, over all outputs, the least w^2 / [H^-1]_cc^2 go (section 3.3); with `of` those of every
    so many columns of an output when they come up (section 3.4).
    """
    dead = hessian.diagonal() == 0
    weight, hessian = weight.masked_fill(dead, 0.0), hessian + torch.diag(dead.to(hessian.dtype))
    rows = len(weight)
    mask = torch.ones_like(weight, dtype=torch.bool)

    def begin(start: int, columns: Tensor, within: Tensor) -> None:
        scores = (columns / within.diagonal()).square()
        end = start + columns.shape[1]
        if of is None:
            wanted = rows * (round((1 - sparsity) * end) - round((1 - sparsity) * start))
            mask[:, start:end] = largest(scores.view(1, -1), wanted).view(scores.shape)
        else:
            mask[:, start:end] = highest(scores, sparsity, of)

    changed = compensated(
        weight, factor(hessian, damp), lambda i, column: column * mask[:, i],
        block=128 if of is None else of, begin=begin,
    )  # fmt: skip
    return changed, mask


def _sparse(
    model: nn.Module, sparsity: float, of: int | None, paths: str
) -> tuple[dict[str, nn.Module], nn.Module, dict[str, Sparse]]:
    """The maps as they are, a copy of the model with sparse ones, and those; shares that there are not are refused."""
    if not 0 <= sparsity < 1:
        raise BadInput(f"sparsity is the share that is left out, from 0 to below 1; given {sparsity}")
    if of is not None and (of < 2 or not (sparsity * of).is_integer()):
        raise BadInput(f"of every `of` neighbours a whole number is left out; given of={of} and sparsity={sparsity}")
    given = linears(model, paths)
    for path, each in given.items():
        if of is not None and each.in_features % of:
            raise BadInput(f"the {each.in_features} inputs of '{path}' are not groups of {of}; give other `paths`")
    made, maps = exchanged(model, paths, spec(Sparse, keep=1 - sparsity))
    return given, made, maps
