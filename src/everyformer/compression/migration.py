"""Methods that make channels easier to round by moving their size, and their middle, into the weights that read them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.compression.calibration import BLOCKS, Calibration, Seen, batches_of, exchanged, linears, observe
from everyformer.compression.folding import Fold, folds
from everyformer.compression.grid import Grid, Group, check, fit
from everyformer.compression.inputs import Fixed
from everyformer.compression.int8 import Int8
from everyformer.compression.quantized import Quantized
from everyformer.errors import BadInput
from everyformer.registry import method
from everyformer.specs import spec

STEPS = 20
"""How finely AWQ tries scales and clips."""
SCORED = ("qkv", "query", "key", "key_value")
"""The maps whose outputs are multiplied with each other, which AWQ does not clip."""


def migrated(
    model: nn.Module, calibration: Calibration, paths: str
) -> tuple[nn.Module, dict[str, Any], list[Fold], dict[str, Seen]]:
    """A copy for use, its plain linear maps, where their inputs can be scaled, and what goes into them."""
    batches = batches_of(calibration, model)
    made = copy.deepcopy(model).eval()
    maps = linears(made, paths)
    return made, maps, folds(made, batches[0], maps), observe(made, batches, maps)


@method(
    "smoothquant",
    title="SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
    authors="Xiao et al.",
    year=2023,
    arxiv="2211.10438",
    idea="Move the size of outlying channels from the activations into the weights, then multiply in 8 bits.",
)
@torch.no_grad()
def smoothquant(model: nn.Module, calibration: Calibration, *, alpha: float = 0.5, paths: str = BLOCKS) -> nn.Module:
    """Equation 4: a copy of the model that multiplies in 8 bits, channels behind norms scaled by max|X|^a / max|W|^(1 - a).

    A norm whose output something else reads too, as after a post-norm, stays as it is.
    """
    if not 0 <= alpha <= 1:
        raise BadInput(f"alpha shares the size between activations (1) and weights (0); given {alpha}")
    made, maps, found, seen = migrated(model, calibration, paths)
    for fold in found:
        if fold.normed and fold.readers[0] in seen:
            fold.apply(
                maps, smoothing(seen[fold.readers[0]].reach, [maps[path].weight for path in fold.readers], alpha)
            )
    return exchanged(made, paths, spec(Int8))[0]


def smoothing(
    reach: Float[Tensor, " D"], weights: list[Float[Tensor, "E D"]], alpha: float = 0.5
) -> Float[Tensor, " D"]:
    """The scale of each channel (SmoothQuant, equation 4)."""
    heavy = torch.cat(weights).abs().amax(0).clamp(min=1e-5)
    return (reach.to(heavy.dtype) ** alpha / heavy ** (1 - alpha)).clamp(min=1e-5)


@method(
    "awq",
    title="AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
    authors="Lin et al.",
    year=2024,
    arxiv="2306.00978",
    idea="Enlarge the weights that large activations read before they are rounded, by a power of the activation's size.",
)
@torch.no_grad()
def awq(
    model: nn.Module,
    calibration: Calibration,
    *,
    bits: int = 4,
    group: int | str = 128,
    clip: bool = True,
    paths: str = BLOCKS,
) -> nn.Module:
    """Section 3.2: a copy of the model with the weights at `paths` in `bits`.

    The scale of channels is a power of their mean size, the one with the least error of what reads them; `clip` shrinks
    the range of each group where that lowers the error.
    """
    check(bits, group)
    made, maps, found, seen = migrated(model, calibration, paths)
    for fold in found:
        if all(path in seen for path in fold.readers):
            weight = torch.cat([maps[path].weight for path in fold.readers]).float()
            scale = salience(weight, seen[fold.readers[0]], bits, group)
            fold.apply(maps, scale.to(maps[fold.readers[0]].weight.dtype))
            for path in fold.readers:
                seen[path].migrate(scale)
    made, rounded = exchanged(made, paths, spec(Quantized, bits=bits, group=group))
    for path in seen if clip else ():
        if path.rpartition(".")[2] not in SCORED:
            rounded[path].take(clipped(maps[path].weight.float(), seen[path].some, bits, group))
    return made


def salience(weight: Float[Tensor, "E D"], seen: Seen, bits: int, group: Group) -> Float[Tensor, " D"]:
    """The scale size^a, a of 0, 0.05, ..., 0.95, with the least squared error of the outputs (AWQ, equation 5)."""
    tried = []
    for i in range(STEPS):
        scale = seen.size.clamp(min=1e-8) ** (i / STEPS)
        scale = scale.clamp(min=1e-4)
        scale = scale / (scale.max() * scale.min()).sqrt()
        wide = weight * scale
        lost = fit(wide, bits, group).columns(group, weight.shape[1]).round(wide) / scale - weight
        tried.append((float((seen.some @ lost.T).square().mean()), scale))
    return min(tried, key=lambda each: each[0])[1]


def clipped(weight: Float[Tensor, "E D"], some: Float[Tensor, "T D"], bits: int, group: Group) -> Float[Tensor, "E D"]:
    """A weight with the range of each group shrunk, to half at most, to where the squared error of its part is least."""
    inputs = weight.shape[1]
    size = inputs if isinstance(group, str) else group

    def apart(values: Tensor) -> Tensor:
        return nn.functional.pad(values, (0, -inputs % size)).unflatten(1, (-1, size))

    rows, groups = apart(some), apart(weight)
    moments = torch.einsum("tgi,tgj->gij", rows, rows)
    best = reach = groups.abs().amax(-1, keepdim=True)
    least = torch.full_like(reach[..., 0], torch.inf)
    for i in range(STEPS // 2):
        most = reach * (1 - i / STEPS)
        held = groups.clamp(-most, most).flatten(1)[:, :inputs]
        lost = apart(fit(held, bits, group).columns(group, inputs).round(held) - weight)
        error = torch.einsum("egi,gij,egj->eg", lost, moments, lost)
        best = torch.where((error < least)[..., None], most, best)
        least = torch.minimum(error, least)
    return groups.clamp(-best, best).flatten(1)[:, :inputs]


@method(
    "os-plus",
    title="Outlier Suppression+: Accurate quantization of large language models by equivalent and optimal shifting and scaling",
    authors="Wei et al.",
    year=2023,
    arxiv="2304.09145",
    idea="Centre each activation channel and squeeze the outlying ones before rounding, and undo both in the next weights.",
)
@torch.no_grad()
def os_plus(model: nn.Module, calibration: Calibration, *, bits: int = 6, paths: str = BLOCKS) -> nn.Module:
    """Sections 4.1 and 4.2: a copy of the model with weights and inputs of the maps at `paths` in `bits`.

    Weights have a scale for each output, inputs one for all; one threshold, that with the least error of what reads the
    norm, says how far the outlying channels are squeezed.
    """
    check(bits)
    made, maps, found, seen = migrated(model, calibration, paths)
    for fold in found:
        if not fold.normed or fold.readers[0] not in seen:
            continue
        here = seen[fold.readers[0]]
        shift = (here.low + here.high) / 2 if fold.shifts(maps) else torch.zeros_like(here.low)
        scale = squeezed(torch.cat([maps[path].weight for path in fold.readers]).float(), here, shift, bits)
        kind = maps[fold.readers[0]].weight.dtype
        fold.apply(maps, scale.to(kind), shift.to(kind) if fold.shifts(maps) else None)
        for path in fold.readers:
            seen[path].migrate(scale, shift)
    form = spec(Quantized, bits=bits, group="channel", rounded=spec(Fixed, bits=bits))
    made, rounded = exchanged(made, paths, form)
    for path, here in seen.items():
        rounded[path].rounded.fit(here.low, here.high)
    return made


def squeezed(weight: Float[Tensor, "E D"], seen: Seen, shift: Float[Tensor, " D"], bits: int) -> Float[Tensor, " D"]:
    """max(1, reach / t) of each shifted channel, with the threshold t of least squared error (OS+, equations 8 to 10)."""
    low, high, some = seen.low - shift, seen.high - shift, seen.some - shift
    reach = torch.maximum(-low, high)
    most = float(reach.max())
    count = max(100, int(most / 0.5))
    wanted, tried = some @ weight.T, []
    for step in range(count + 1):
        threshold = most + (min(1.0, most) - most) * step / count
        scale = (reach / threshold).clamp(min=1.0)
        inputs = Grid.between((low / scale).min(), (high / scale).max(), bits).round(some / scale)
        wide = weight * scale
        lost = inputs @ fit(wide, bits, "channel").round(wide).T - wanted
        tried.append((float(lost.square().mean()), scale))
    return min(tried, key=lambda each: each[0])[1]
