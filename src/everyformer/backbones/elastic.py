"""A body that is trained at several sizes at once."""

from __future__ import annotations

import torch

from everyformer.backbones.stacks import Decoder
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Elastic(Backbone):
    """In training a pass runs, at a chance of `rate`, with one of the `shares` of its nested parts (MatFormer, 2024, 3.2).

    In use the context says which share works (all of it, unless told).
    """

    def __init__(
        self,
        width: int,
        *,
        body: Spec[Backbone] = spec(Decoder),  # noqa: B008
        shares: tuple[float, ...] = (0.125, 0.25, 0.5),
        rate: float = 0.75,
    ) -> None:
        super().__init__()
        if not all(0 < share < 1 for share in shares) or not 0 <= rate <= 1:
            raise ValueError(f"shares are between 0 and 1, and rate is a probability; given {shares} and {rate}")
        self.shares, self.rate = shares, rate
        self.body: Backbone = self.make("body", body, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the body."""
        context = context or Context()
        if self.training and self.rate:
            narrow, which = torch.rand(2, generator=context.generator).tolist()
            if narrow < self.rate:
                context = context.replace(share=self.shares[int(which * len(self.shares))])
        return self.body(tokens, context)
