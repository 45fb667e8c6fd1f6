"""Mixers whose values are spikes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.legendre import LegendreMemory
from everyformer.registry import part
from everyformer.spikes import Firing
from everyformer.tokens import Tokens


@part("mixers")
class SpikingLegendreMemory(LegendreMemory):
    """A Legendre memory of which all that is written, read and given are spikes (Liu et al., LMUFormer, 2024, section 3.2).

    `memory` is twice the width unless given.
    """

    capabilities = frozenset({"causal", "ordered"})

    def __init__(self, width: int, *, memory: int | None = None, window: float = 128.0) -> None:
        memory = memory or 2 * width
        super().__init__(width, memory=memory, window=window)
        self.written, self.read, self.made, self.given = map(Firing, (1, memory, width, width))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """0 and 1."""
        memory = self.read(self.memory(self.written(self.input(tokens.values))))
        return self.given(self.output(self.made(self.hidden(torch.cat((memory, tokens.values), -1)))))


@part("mixers")
class SpikingMLP(Mixer):
    """Two linear maps, each followed by a batch norm and spikes, whose neurons remember the tokens before.

    Liu et al., LMUFormer, 2024, section 3.2; it stands in the place of a feedforward.
    """

    capabilities = frozenset({"causal", "ordered"})

    def __init__(self, width: int, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.inner, self.outer = Firing(hidden), Firing(width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """0 and 1."""
        return self.outer(self.down(self.inner(self.up(tokens.values))))
