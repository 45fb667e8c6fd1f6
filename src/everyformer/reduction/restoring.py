"""The way back."""

from __future__ import annotations

from everyformer.context import Context
from everyformer.contracts import Reduction
from everyformer.reduction.base import restored
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("reduction")
class Restore(Reduction):
    """Undoes all reductions before it: as many tokens as in the beginning, on their grid, for dense prediction.

    A merged token is given back to each of its sources; one that was dropped has what the nearest of those left has.
    """

    capabilities = frozenset({"causal", "masked"})
    gives_grid = True

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens at the places of the source."""
        return restored(tokens)
