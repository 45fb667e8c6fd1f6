"""A beginning that many prompts share, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Decoding


@dataclass(frozen=True)
class Prefix:
    """Tokens, and the cache of a model that has seen them; `generate(..., prefix=)` leaves it as it is."""

    ids: tuple[int, ...]
    cache: Cache

    @classmethod
    @torch.inference_mode()
    def read(cls, model: nn.Module, ids: Sequence[int], cache: Cache) -> Prefix:
        """Let the model read the tokens into the cache."""
        if not ids:
            raise BadInput("a prefix of no tokens; leave it out")
        device = next(model.parameters()).device
        Decoding(model, Context(cache=cache), torch.tensor([list(ids)], device=device)).start()  # type: ignore[arg-type]
        return cls(tuple(ids), cache)

    def continued(self, model: nn.Module, ids: Tensor, mask: Tensor | None) -> Decoding:
        """The model after the prefix and prompts (B, N), padded on the left."""
        if not {*self.cache.columns, *self.cache.states, *self.cache._layers} <= {*model.modules()}:
            raise DoesNotFit("the prefix was read by another model; read it with this one", "prefix")
        cache, batch = self.cache.fork(), len(ids)
        cache.select(torch.zeros(batch, dtype=torch.long, device=ids.device))
        before = torch.tensor(self.ids, device=ids.device).expand(batch, -1)
        if mask is not None:
            mask = torch.cat((torch.ones_like(before, dtype=torch.bool), mask), 1)
        return Decoding(model, Context(cache=cache), torch.cat((before, ids), 1), mask, held=len(self.ids))  # type: ignore[arg-type]
