"""How the weights of very deep models start (DeepScaleLM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from everyformer.backbones import Block
from everyformer.feedforward import MLP
from everyformer.mixers import Attention
from everyformer.models.moments import Moments, added, attention, feedforward
from everyformer.models.starts import Start
from everyformer.registry import part


@part("models")
class DeepScale(Start):
    """Every residual layer begins with updates of variance 1, dropout included (Kedia et al., DeepScaleLM, 2024, section 4).

    For values and outputs of attention that takes the correlation between tokens, which is followed from layer to layer,
    beginning at `correlation`, that of the words of a text (0.221 in the authors' code). Maps are normal with
    1/sqrt(inputs) otherwise, and tables such that their sum has variance 1. For `UnitPreNorm` and `UnitPostNorm`.
    """

    def __init__(self, *, correlation: float = 0.221) -> None:
        super().__init__()
        if not 0 < correlation <= 1:
            raise ValueError(f"the correlation between tokens is above 0 and at most 1; given {correlation}")
        self.correlation = correlation

    def apply_to(self, root: nn.Module, depth: int = 1) -> None:
        """Set the weights inside `root`."""
        super().apply_to(root, depth)
        tables = [module for module in root.modules() if isinstance(module, nn.Embedding)]
        rate = _rate(getattr(root, "embedding", None))
        for table in tables:
            nn.init.normal_(table.weight, std=math.sqrt((1 - rate) / len(tables)))
        state = Moments(0.0, 1.0, self.correlation * (1 - rate))
        for block in root.modules():
            if isinstance(block, Block):
                for layer, residual in zip(block.layers(), block.residual, strict=True):
                    state = self._layer(layer, _rate(residual), getattr(residual, "share", 0.5), state)

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module."""
        weight: Tensor = module.weight  # type: ignore[assignment]
        nn.init.normal_(weight, std=weight[0].numel() ** -0.5)

    @torch.no_grad()
    def _layer(self, layer: nn.Module, rate: float, share: float, state: Moments) -> Moments:
        """Start one layer; gives the moments of the trunk after it."""
        if isinstance(layer, Attention):
            width: int = layer.qkv.in_features
            each = math.sqrt((1 - rate) / state.covariance) / width
            values = layer.qkv.weight[-layer.sizes[2] :]
            for weight in (values, layer.output.weight):
                weight.normal_(std=math.sqrt(each))
            return added(state, attention(state, width, each, each, rate), share)
        if isinstance(layer, MLP):
            width, hidden = layer.up.in_features, layer.up.out_features
            each = math.sqrt(2 * (1 - rate) / (width * hidden))
            for weight in (layer.up.weight, layer.down.weight):
                weight.normal_(std=math.sqrt(each))
            return added(state, feedforward(state, width, hidden, each, each, rate), share)
        return state


def _rate(holder: nn.Module | None) -> float:
    """The dropout of a part."""
    found = getattr(holder, "dropout", None)
    return 0.0 if found is None else float(found.rate)
