"""What can stand where a linear map stands, and a feedforward made of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import FeedForward, Norm, Projection
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("feedforward")
class Linear(Projection):
    """W x + b."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.map = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        return self.map(values)


@part("feedforward")
class Pattention(Projection):
    """Attention of each token to learned keys and values (Wang et al., TokenFormer, 2025, equations 6 to 8).

    gelu(tau a / |a|) V with a = x K^T and tau = sqrt(tokens), which is kept as the tokens grow: grown by keys of zeros,
    it is the function that it was (section 3.3).
    """

    scale: Tensor

    def __init__(self, inputs: int, outputs: int, *, tokens: int = 64, std: float = 0.02) -> None:
        super().__init__()
        if tokens < 1:
            raise ValueError(f"there is at least one token; given tokens={tokens}")
        self.key = nn.Parameter(torch.randn(tokens, inputs) * std)
        self.value = nn.Parameter(torch.randn(tokens, outputs) * std)
        self.register_buffer("scale", torch.tensor(math.sqrt(tokens)))

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The projected values."""
        return F.gelu(F.normalize(values @ self.key.T, dim=-1) * self.scale) @ self.value

    def inherit(self, old: nn.Module) -> None:
        """Take over keys, values and scale; the keys that are new are zero."""
        super().inherit(old)
        with torch.no_grad():
            self.key[len(old.key) :] = 0.0


@part("feedforward")
class Projected(FeedForward):
    """A feedforward of projections: one, or one to a hidden width and another back with a norm between."""

    def __init__(
        self,
        width: int,
        *,
        projection: Spec[Projection] = spec(Pattention, tokens=256),  # noqa: B008
        back: Spec[Projection] | None = None,
        hidden: int | None = None,
        norm: Spec[Norm] | None = None,
    ) -> None:
        super().__init__()
        inner = width if back is None else hidden or width
        self.projection: Projection = self.make("projection", projection, width, inner)
        self.norm = self.make("norm", norm, inner)
        self.back: Projection | None = self.make("back", back, inner, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        values = self.projection(tokens.values)
        values = values if self.norm is None else self.norm(values)
        return values if self.back is None else self.back(values)
