"""Several bodies side by side on the same tokens."""

from __future__ import annotations

import torch
from torch import nn

from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone, Norm, normalise
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Summed(Backbone):
    """norm(sum_k body_k(x)) (Hu et al., Multi-Encoder Transformer, 2023, section 3)."""

    def __init__(
        self,
        width: int,
        *,
        bodies: tuple[Spec[Backbone], ...] = (spec(Encoder), spec(Encoder)),
        norm: Spec[Norm] | None = None,
    ) -> None:
        super().__init__()
        self.bodies: nn.ModuleList = self.make("bodies", bodies, width)
        self.norm = self.make("norm", norm, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens with the sum of what the bodies make of them."""
        context = context or Context()
        total = tokens.update(torch.stack([body(tokens, context).values for body in self.bodies]).sum(0))
        return total if self.norm is None else total.update(normalise(self.norm, total))
