"""No mixing at all."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class Identity(Mixer):
    """The tokens themselves as their update (Yu et al., MetaFormer Baselines, 2024, section 2.2)."""

    capabilities = frozenset({"causal", "padding", "packed", "incremental", "weights"})

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The values as they are."""
        return tokens.values
