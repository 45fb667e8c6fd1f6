"""Attention with a memory in front of its own tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.mixers.attention import Attention, Pair
from everyformer.mixers.lowering import Deferred, Lowered
from everyformer.mixers.sight import Sight
from everyformer.registry import part

BEFORE = "before"
"""The memory that stands in front."""


@part("mixers")
class FrontedAttention(Attention):
    """Attention whose tokens also see those of the memory 'before', through the same maps (Yoshida et al., 2020).

    The keys of the memory are not turned by where they stand. Where the context holds no such memory it is `Attention`.
    """

    capabilities = frozenset({"causal", "masked", "weights"})

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        before = context.memory.get(BEFORE)
        if before is not None:
            if before.batch != key.shape[0]:
                raise BadInput(
                    f"the memory '{BEFORE}' has {before.batch} sequences, and {key.shape[0]} of one length are attended to "
                    "together; give texts of one length, neither padded nor packed"
                )
            _, more, other = self.operands(self.project(before))
            sight = sight.widened(before.count, query)
            key, value = torch.cat((more, key), 2), torch.cat((other, value), 2)
        return super()._attend(query, key, value, sight, context)

    def _by_blocks(
        self,
        call: Callable[..., Tensor],
        lowered: Lowered,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *along: Pair,
    ) -> Float[Tensor, "B H N V"]:
        """All at once: what stands in front is of no block."""
        return call(query, key, value, lowered.dense if isinstance(lowered, Deferred) else lowered, *along)
