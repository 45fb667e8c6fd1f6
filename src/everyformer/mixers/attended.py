"""What an attention attended with, shown to the reductions that choose tokens by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from everyformer.mixers.attend import softmax
from everyformer.mixers.lowering import Lowered
from everyformer.tokens import Tokens


@dataclass(frozen=True)
class Attended:
    """Queries (B, H, N, K), keys (B, G, M, K), and the mask and bias of their scores; padded where the batch was packed."""

    query: Float[Tensor, "B H N K"]
    key: Float[Tensor, "B G M K"]
    lowered: Lowered
    scale: float
    bias: Callable[[], Tensor | None]
    """Forms what is added to the scores, (#B, #H, #N, M)."""
    tokens: Tokens | None = None
    """The tokens that the layer was given."""

    def keys(self) -> Float[Tensor, "B M K"]:
        """The keys, averaged over the heads."""
        return self.key.mean(1)

    def weights(self, rows: slice = slice(None)) -> Float[Tensor, "B H R M"]:
        """The weights of the queries in `rows`: softmax(q k^T scale + bias) under the mask, formed only here."""
        scores, allowed = self.scores(rows)
        return softmax(scores, allowed)

    def scores(self, rows: slice = slice(None)) -> tuple[Float[Tensor, "B H R M"], Bool[Tensor, "#B #H #R M"] | None]:
        """What the softmax takes for the queries in `rows`, and which keys each may see; None where all."""
        query = self.query[:, :, rows]
        key = self.key.repeat_interleave(self.query.shape[1] // self.key.shape[1], 1)
        scores = query @ key.mT * self.scale
        bias = self.bias()
        if bias is not None:
            scores = scores + _rows(bias, rows)
        allowed = self.lowered.explicit(key.shape[2], scores.device)
        return scores, None if allowed is None else _rows(allowed, rows)


def _rows(of_all: Tensor, rows: slice) -> Tensor:
    return of_all if of_all.shape[2] == 1 else of_all[:, :, rows]
