"""Full attention by conditional expectations: direct to the own segment, through summaries to all others."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput
from everyformer.masks import Causal
from everyformer.mixers.state import state
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class CombinerAttention(Mixer):
    """One softmax over the tokens of the own segment and a summary of each other one (Ren et al., 2021, section 4.1, fixed).

    A segment answers with what its largest query finds in it, and is found by its largest key, channel by channel. In a
    causal place the summaries are of earlier segments. Cost: N times (`segment` + N / `segment`) scores, least where
    `segment` is sqrt(N).
    """

    capabilities = frozenset({"causal", "ordered"})

    def __init__(self, width: int, *, heads: int = 8, segment: int = 64, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        if segment < 1:
            raise ValueError(f"segment is at least 1; given {segment}")
        self.heads, self.segment = heads, segment
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        context = context or Context()
        if context.cache is not None:
            raise BadInput("segments are summed up once they are whole; generate without a cache")
        qkv = self.qkv(tokens.values).unflatten(-1, (3, self.heads, -1))
        query, key, value = (self._segments(each) for each in qkv.permute(2, 0, 3, 1, 4))
        real = self._segments(torch.ones(1, 1, tokens.count, 1, device=qkv.device))[0, 0, ..., 0] > 0
        query = query * query.shape[-1] ** -0.5
        mixed = self._mix(query, key, value, real, isinstance(context.mask, Causal))
        return self.output(mixed.flatten(2, 3)[:, :, : tokens.count].transpose(1, 2).flatten(2))

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, real: Bool[Tensor, "n S"], causal: bool
    ) -> Float[Tensor, "B H n S K"]:
        count, size = real.shape
        near = real[:, None, :].expand(-1, size, -1)
        others = ~torch.eye(count, dtype=torch.bool, device=real.device)
        if causal:
            near, others = near.tril(), others.tril()
        direct = state(query @ key.mT, value, near)
        lead, found = _largest(query, real), _largest(key, real)
        within = (lead[..., None, :] @ key.mT).masked_fill(~real[:, None, :], -torch.inf).softmax(-1)
        summary = (within @ value)[..., 0, :]
        through = state(query @ found[:, :, None].mT, summary[:, :, None], others[:, None, :])
        return direct.merge(through).finish()

    def _segments(self, x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H n S K"]:
        return F.pad(x, (0, 0, 0, -x.shape[2] % self.segment)).unflatten(2, (-1, self.segment))


def _largest(x: Float[Tensor, "B H n S K"], real: Bool[Tensor, "n S"]) -> Float[Tensor, "B H n K"]:
    """The largest of each channel over the real tokens of a segment."""
    return x.masked_fill(~real[..., None], -torch.inf).amax(3)
