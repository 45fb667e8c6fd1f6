"""Tokens as sums of a few vectors, found anew for each sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.registry import part
from everyformer.tokens import Tokens

_EPS = 1e-6


@part("mixers")
class Hamburger(Mixer):
    """W2 of the nearest product C D^T of a non-negative factorisation of ReLU(W1 x), of that `rank`, by multiplicative
    steps from random vectors (Geng et al., Is Attention Better Than Matrix Decomposition?, 2021; Guo et al., SegNeXt, 2022,
    official code, all steps of which the gradient passes).

    The steps begin at the same vectors D, drawn once; the code draws them anew for each batch that it learns from.
    """

    capabilities = frozenset({"padding"})
    start: Tensor

    def __init__(self, width: int, *, rank: int = 16, steps: int = 7) -> None:
        super().__init__()
        if rank < 1 or steps < 0:
            raise ValueError(f"a factorisation has a rank of 1 or more; given rank={rank}, steps={steps}")
        self.steps = steps
        self.up = nn.Linear(width, width)
        self.output = nn.Linear(width, width, bias=False)
        self.register_buffer("start", F.normalize(torch.rand(width, rank), dim=0))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        values = F.relu(self.up(tokens.values))
        if tokens.mask is not None:
            values = values * tokens.mask[..., None]
        coefficients, vectors = factors(values, self.start.expand(values.shape[0], -1, -1), self.steps)
        return self.output(coefficients @ vectors.mT)


def factors(
    values: Float[Tensor, "B N D"], vectors: Float[Tensor, "B D R"], steps: int
) -> tuple[Float[Tensor, "B N R"], Float[Tensor, "B D R"]]:
    """Non-negative C and D with C D^T near `values`, after `steps` updates of both and a last one of C (Lee and Seung, 2001).

    No update takes C D^T further away.
    """
    coefficients = (values @ vectors).softmax(-1)
    for _ in range(steps):
        coefficients = _nearer(coefficients, values @ vectors, vectors)
        vectors = _nearer(vectors, values.mT @ coefficients, coefficients)
    return _nearer(coefficients, values @ vectors, vectors), vectors


def _nearer(
    one: Float[Tensor, "B P R"], product: Float[Tensor, "B P R"], other: Float[Tensor, "B Q R"]
) -> Float[Tensor, "B P R"]:
    """One factor, the other held: what is above 0 stays above 0."""
    return one * product / (one @ (other.mT @ other) + _EPS)
