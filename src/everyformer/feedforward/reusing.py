"""A feedforward that reads what an earlier network made of the same place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import FeedForward, Norm
from everyformer.convolution import regridded
from everyformer.errors import BadInput
from everyformer.grids import as_map
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("feedforward")
class ReusingMLP(FeedForward):
    """W2 gelu(W1 norm([x, e])) with e = MLP(norm(z)) of the tokens z of an earlier network, brought onto this one's grid
    (Wang et al., DVT, 2021, section 3.2, feature reuse); e is 0 for leading tokens, and where nothing is remembered.

    `norm` stands before both; the residual has none. z is the memory `memory` of the context.
    """

    def __init__(
        self,
        width: int,
        *,
        norm: Spec[Norm],
        hidden: int | None = None,
        ratio: float = 4.0,
        reused: int = 48,
        inner: int = 128,
        memory: str = "earlier",
    ) -> None:
        super().__init__()
        hidden = int(width * ratio) if hidden is None else hidden
        self.reused, self.memory = reused, memory
        self.norm = self.make("norm", norm, width + reused)
        self.up = nn.Linear(width + reused, hidden)
        self.down = nn.Linear(hidden, width)
        self.earlier = self.make("norm", norm, width)
        self.inner = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, reused)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        memory = None if context is None else context.memory.get(self.memory)
        known = tokens.values.new_zeros(*tokens.values.shape[:2], self.reused)
        if memory is not None:
            known = F.pad(self.embedded(memory, tokens), (0, 0, tokens.prefix, 0))
        return self.down(F.gelu(self.up(self.norm(torch.cat((tokens.values, known), -1)))))

    def embedded(self, memory: Tokens, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """e for the tokens of a grid."""
        if tokens.grid is None:
            raise BadInput("what an earlier network knew is brought onto the grid of the tokens, and they fill none")
        values = self.narrow(F.gelu(self.inner(self.earlier(memory.values))))
        return regridded(as_map(memory.update(values)), tokens.grid).flatten(2).mT
