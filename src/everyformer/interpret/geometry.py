"""Hidden states taken apart into position and context."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.registry import method


@dataclass(frozen=True)
class Geometry:
    """h[c, t] = mean + position[t] + context[c] + rest[c, t] (equation 2)."""

    mean: Float[Tensor, " D"]
    position: Float[Tensor, "T D"]
    context: Float[Tensor, "C D"]
    rest: Float[Tensor, "C T D"]

    def stable_rank(self) -> float:
        """||P||_F^2 / ||P||_2^2 of the positions."""
        values = torch.linalg.svdvals(self.position)
        return float(values.square().sum() / values[0].square())

    def rank(self, share: float = 0.95) -> int:
        """How many directions hold that share of the positions' variance."""
        values = torch.linalg.svdvals(self.position).square()
        return int((values.cumsum(0) < share * values.sum()).sum()) + 1

    def smoothness(self, frequencies: int = 10) -> float:
        """The share of the energy of the positions' Gram matrix in its lowest frequencies, by a cosine transform."""
        count = len(self.position)
        wave = torch.arange(count, dtype=self.position.dtype, device=self.position.device)
        basis = torch.cos(torch.pi * wave[:, None] * (wave + 0.5) / count) * (2 / count) ** 0.5
        basis[0] /= 2**0.5
        energy = (basis @ (self.position @ self.position.mT) @ basis.mT).square()
        return float(energy[:frequencies, :frequencies].sum() / energy.sum())

    def incoherence(self) -> float:
        """The mean absolute cosine between positions and contexts: near 0 where they do not meet."""
        one, other = (torch.nn.functional.normalize(x, dim=-1) for x in (self.position, self.context))
        return float((one @ other.mT).abs().mean())


@method(
    "hidden-geometry",
    title="Uncovering hidden geometry in Transformers via disentangling position and context",
    authors="Song and Zhong",
    year=2023,
    arxiv="2310.04861",
    idea="Hidden states are a mean, a smooth low-dimensional curve of positions, clusters of contexts, and a rest.",
)
def geometry(states: Float[Tensor, "C T D"]) -> Geometry:
    """Take apart the hidden states of C sequences of T tokens, as `record` gives them (section 2)."""
    if states.dim() != 3 or min(states.shape[:2]) < 2:
        raise BadInput(f"expected states of at least 2 sequences of at least 2 tokens; given {tuple(states.shape)}")
    mean = states.mean((0, 1))
    position = states.mean(0) - mean
    context = states.mean(1) - mean
    return Geometry(mean, position, context, states - mean - position - context[:, None])


def score_parts(
    states: Geometry, query: Float[Tensor, "D K"], key: Float[Tensor, "D K"]
) -> dict[str, Float[Tensor, "C T T"]]:
    """The scores of a head taken apart: position or content of the query with that of the key (section 5).

    They sum to (h - mean) W_q W_k^T (h - mean)^T.
    """
    content = states.rest + states.context[:, None]
    sides = {"position": states.position.expand_as(content), "content": content}
    return {
        f"{one}-{other}": (sides[one] @ query) @ (sides[other] @ key).mT for one in sides for other in sides
    }  # fmt: skip
