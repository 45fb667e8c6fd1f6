"""Maps of every token on the way through a body."""

from __future__ import annotations

from torch import nn

from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("backbones")
class Project(Backbone):
    """A linear map in the place of the values, without residual: between an embedding and the blocks of another scale.

    `to` is the width that it gives, where that is another.
    """

    def __init__(self, width: int, *, to: int | None = None) -> None:
        super().__init__()
        self.gives = to
        self.linear = nn.Linear(width, to or width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens with mapped values."""
        return tokens.update(self.linear(tokens.values))
