"""A batch in the middle of generation, with a cache or without."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.context import Context
from everyformer.errors import DoesNotFit
from everyformer.models.model import Root


@dataclass
class Decoding:
    """The model, what it has seen, and the next token's logits."""

    model: Root
    context: Context
    """With a cache, each step sees the new token alone; without one, all tokens again."""
    ids: Int[Tensor, "B N"]
    """All tokens so far, the prompts padded on the left."""
    mask: Bool[Tensor, "B N"] | None = None
    """True where a token is real; None where all are."""
    prompt: int = field(init=False)
    """How many of `ids` were given."""

    def __post_init__(self) -> None:
        self.prompt = self.ids.shape[1]

    def start(self) -> Float[Tensor, "B V"]:
        """Logits of the first new token."""
        return self._logits(self.ids, self.mask)

    def step(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Logits of the token after `tokens`, one for each sequence."""
        self.ids = torch.cat((self.ids, tokens[:, None]), 1)
        if self.mask is not None:
            self.mask = torch.cat((self.mask, self.mask.new_ones(len(tokens), 1)), 1)
        if self.context.cache is None:
            return self._logits(self.ids, self.mask)
        return self._logits(tokens[:, None], None)

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep, repeat and reorder sequences."""
        self.context.select(rows)
        self._pick(rows)

    def shuffle(self, rows: Int[Tensor, " B"]) -> None:
        """Reorder sequences among those with the same source and padding, whose memory can stay."""
        if self.context.cache is not None:
            self.context.cache.shuffle(rows)
        self._pick(rows)

    def _pick(self, rows: Tensor) -> None:
        self.ids = self.ids.index_select(0, rows)
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)

    def _logits(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        fields = {} if mask is None else {"mask": mask}
        logits = self.model.decode(ids, self.context, last=True, **fields)  # type: ignore[operator]
        if logits.ndim != 3:
            raise DoesNotFit(f"generation needs logits for each token; the head gives {tuple(logits.shape)}", "head")
        return logits[:, -1].float()
