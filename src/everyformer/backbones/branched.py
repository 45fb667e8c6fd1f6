"""Blocks of several mixers side by side, then several feedforwards side by side."""

from __future__ import annotations

from torch import nn

from everyformer.context import Context
from everyformer.contracts import Backbone, FeedForward, Mixer, mix
from everyformer.feedforward import MLP
from everyformer.mixers import Attention
from everyformer.norms import PreNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class BranchedBlock(Backbone):
    """x' = x + sum of mixer_p(norm_p(x)), then x' + sum of feedforward_p(norm'_p(x')) (Touvron et al., 2022b, equation 2).

    Two blocks one after the other have the parameters and the FLOPs of one with two branches, and twice its depth.
    """

    def __init__(
        self,
        width: int,
        *,
        mixers: tuple[Spec[Mixer], ...] = (spec(Attention), spec(Attention)),
        feedforwards: tuple[Spec[FeedForward], ...] = (spec(MLP), spec(MLP)),
        residual: Spec[PreNorm] = spec(PreNorm),  # noqa: B008
    ) -> None:
        super().__init__()
        self.mixers: nn.ModuleList = self.make("mixers", mixers, width)
        self.feedforwards: nn.ModuleList = self.make("feedforwards", feedforwards, width)
        count = len(mixers) + len(feedforwards)
        self.residual = nn.ModuleList(self.make("residual", residual, width) for _ in range(count))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after both rows of branches."""
        context = context or Context()
        around = iter(self.residual)
        values = tokens.values
        for mixer in self.mixers:
            values = next(around)(tokens, lambda t, mixer=mixer: mix(mixer, t, context), context, values).values
        tokens = tokens.update(values)
        for each in self.feedforwards:
            values = next(around)(tokens, lambda t, each=each: each(t, context), context, values).values
        return tokens.update(values)
