"""The maps that a body makes of a picture, layer by layer, the same way for every design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.grids import as_map
from everyformer.tokens import Tokens


@dataclass(frozen=True)
class FeatureMap:
    """Tokens of one place of the model as a map."""

    path: str
    values: Float[Tensor, "B C Y X"]
    stride: tuple[float, float]
    """How many pixels of the input, down and across, a cell stands for."""

    @property
    def channels(self) -> int:
        """C."""
        return self.values.shape[1]


def features(model: nn.Module, inputs: Float[Tensor, "B C Y X"], **fields: Any) -> list[FeatureMap]:
    """The last map of every resolution, the finest first; leading tokens (class, register) are left out."""
    levels: dict[nn.Module, Tokens] = {}
    with torch.no_grad():
        model(inputs, context=Context(levels=levels), **fields)
    paths = {module: path for path, module in model.named_modules()}
    found: dict[tuple[int, ...], FeatureMap] = {}
    for module, tokens in levels.items():
        if tokens.grid is None or len(tokens.grid) != 2:
            continue
        rows, columns = tokens.grid
        stride = inputs.shape[-2] / rows, inputs.shape[-1] / columns
        found[tokens.grid] = FeatureMap(paths[module], as_map(tokens), stride)
    if not found:
        raise BadInput("no level of this model has tokens on a grid of two sides; features are for models of pictures")
    return sorted(found.values(), key=lambda each: each.stride)
