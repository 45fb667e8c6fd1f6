"""Depth as a resource: bodies that a sample may pass by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.context import Context, rows_of
from everyformer.contracts import Backbone, Router
from everyformer.feedforward import SampleGate
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Skipping(Backbone):
    """Bodies one after the other: w b(x) + (1 - w) x, with w of `router`, which sees what enters the first of them.

    With a gate of 0 or 1 for each sample it is the gated layer of Peng et al. (I3D, 2023, section 2.2). In use a body runs
    on those samples alone that do not pass it by.
    """

    incremental = False

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block, feedforward=None), spec(Block, mixer=None)),
        router: Spec[Router] = spec(SampleGate),  # noqa: B008
    ) -> None:
        super().__init__()
        self.blocks: nn.ModuleList = self.make("blocks", blocks, width)
        self.router: Router = self.make("router", router, width, len(blocks))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after all bodies."""
        context = context or Context()
        weights = self.router(tokens, context)
        for block, weight in zip(self.blocks, weights.split(1, -1), strict=True):
            tokens = self._through(block, tokens, weight, context)
        return tokens

    def _through(self, block: nn.Module, tokens: Tokens, weight: Float[Tensor, "B N 1"], context: Context) -> Tokens:
        """One body; where it may look at the weights, it leaves out what nothing comes of."""
        if self.training or weight.is_meta or torch.compiler.is_compiling():
            return _weighed(block, tokens, weight, context)
        runs = (weight != 0).flatten(1).any(1)
        if not runs.any():
            return tokens
        if runs.all():
            return _weighed(block, tokens, weight, context)
        rows = runs.nonzero()[:, 0]
        some = _weighed(block, rows_of(tokens, rows), weight[rows], context.rows(rows))
        return tokens.update(tokens.values.index_copy(0, rows, some.values))


def _weighed(block: nn.Module, tokens: Tokens, weight: Float[Tensor, "B N 1"], context: Context) -> Tokens:
    return tokens.update(weight * block(tokens, context).values + (1 - weight) * tokens.values)
