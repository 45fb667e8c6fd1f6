"""Layers of any number made of two stored ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.func import functional_call

from everyformer.backbones.blocks import Block
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class LinearExpansion(Backbone):
    """`depth` blocks whose weights are a linear function of their place: base + l / depth * slope, l from 0.

    Xia et al., Transformer as Linear Expansion of Learngene, 2024. Two blocks are stored, `block.0` the base and
    `block.1` the slope, which begins as zeros: layers that are all alike.
    """

    def __init__(self, width: int, *, block: Spec[Backbone] = spec(Block), depth: int = 6) -> None:  # noqa: B008
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is at least 1; given {depth}")
        self.depth = depth
        self.block = nn.ModuleList(self.make("block", block, width) for _ in range(2))
        for each in self.block[1].modules():
            each.own_init = True  # type: ignore[assignment]
        for weight in self.block[1].parameters():
            nn.init.zeros_(weight)

    def weights(self, layer: int, depth: int) -> dict[str, Tensor]:
        """The weights of a layer, counted from 0, among `depth`."""
        base, slope = (dict(each.named_parameters()) for each in self.block)
        return {name: weight + layer / depth * slope[name] for name, weight in base.items()}

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after all layers, each with a cache of its own."""
        context = context or Context()
        for layer in range(self.depth):
            here = context if context.cache is None else context.replace(cache=context.cache.turn(self, layer))
            tokens = functional_call(self.block[0], self.weights(layer, self.depth), (tokens, here))
        return tokens
