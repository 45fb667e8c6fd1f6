"""Convolutions of several widths side by side."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class Inception(Mixer):
    """act(conv_k(x)) along the sequence for each of the `kernels`, which share the channels (Shahriar et al., 2025).

    Padding is zero to them, as what lies beyond the ends is.
    """

    capabilities = frozenset({"padding", "ordered"})

    def __init__(self, width: int, *, kernels: tuple[int, ...] = (1, 3, 5, 7), activation: str = "relu") -> None:
        super().__init__()
        if width % len(kernels) or not all(kernel % 2 for kernel in kernels):
            raise ValueError(f"{width} channels are shared by kernels of odd widths, all alike; given {kernels}")
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width // len(kernels), kernel, padding=kernel // 2) for kernel in kernels
        )
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token and its neighbours say, at all widths."""
        values = tokens.zeroed().mT
        return self.activation(torch.cat([conv(values) for conv in self.convs], 1)).mT
