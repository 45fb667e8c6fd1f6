"""What happens to an update before it is added: scaled per channel, or left out for a sample at random."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.registry import Part, part
from everyformer.tokens import Tokens


class Branch(Part):
    """Base: `forward(update, tokens, context)` gives the update that is added."""

    def forward(self, update: Float[Tensor, "B N D"], tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        """The update that is added."""
        raise NotImplementedError


@part("norms")
class LayerScale(Branch):
    """A learned factor per channel, small at the start (Touvron et al., CaiT, 2021, equation 6)."""

    def __init__(self, width: int, *, start: float = 1e-5) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, update: Float[Tensor, "B N D"], tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        """The update times the factor."""
        return update * self.factor


@part("norms")
class StochasticDepth(Branch):
    """In training the update of a sample is left out with probability `rate`, the others scaled up (Huang et al., 2016)."""

    def __init__(self, width: int, *, rate: float = 0.1) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a rate is at least 0 and below 1; given {rate}")
        self.rate = rate

    def forward(self, update: Float[Tensor, "B N D"], tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        """The update, scaled or zero for each sample (each sequence, where packed)."""
        if not self.training or self.rate == 0:
            return update
        samples = update.shape[0] if tokens.lengths is None else len(tokens.lengths)
        keep = torch.rand(samples, device=update.device, generator=context.generator) >= self.rate
        factor = keep.to(update.dtype) / (1 - self.rate)
        return update * tokens.spread(factor[:, None])
