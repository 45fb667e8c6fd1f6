"""Cross-attention over the few memory tokens that each head finds for each query."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import LinearMap, Mixer
from everyformer.mixers.search import ExactSearch, Search
from everyformer.registry import part
from everyformer.tokens import Tokens, unpack


@part("mixers")
class RetrievedAttention(Mixer):
    """Each head of each query attends to its `keep` best memory tokens (Bertsch et al., Unlimiformer, 2023, section 2.2).

    q . (W_k h) is (W_k^T q) . h, so all heads and layers search the one memory h, a piece of `chunk` tokens at a time,
    and its keys and values are never formed: the weights take a mean of states, which W_v maps. With no more tokens than
    `keep` it is `CrossAttention`, whose weights it has. A merged token of the memory counts as those that it stands for.
    `search` may be exchanged for another, such as `FaissSearch`; designs and runs are kept without it.
    """

    capabilities = frozenset({"memory", "masked", "padding", "packed", "incremental", "causal"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        memory: str = "encoder",
        memory_width: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        scale: float | None = None,
        keep: int = 1024,
        chunk: int = 4096,
    ) -> None:
        super().__init__()
        if head_width is None and width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; give head_width or other heads")
        if keep < 1:
            raise ValueError(f"keep is at least 1; given {keep}")
        self.heads, self.head_width = heads, head_width or width // heads
        self.memory, self.keep = memory, keep
        self.search: Search = ExactSearch(chunk)
        self.scale = self.head_width**-0.5 if scale is None else scale
        inner = heads * self.head_width
        self.query = nn.Linear(width, inner, bias=bias)
        self.key_value = nn.Linear(memory_width or width, 2 * inner, bias=bias)
        self.output = nn.Linear(inner, width, bias=bias if output_bias is None else output_bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the memory."""
        memory = (context or Context()).read(self.memory)
        memory = memory if memory.lengths is None else unpack(memory)
        query = self.query(tokens.values)
        if tokens.lengths is None:
            return self.output(self._mix(query, memory))
        rows = unpack(tokens, query)
        return self.output(self._mix(rows.values, memory)[rows.mask][None])

    def _mix(self, query: Float[Tensor, "B N E"], memory: Tokens) -> Float[Tensor, "B N E"]:
        heads = query.unflatten(-1, (self.heads, -1)).transpose(1, 2) * self.scale
        mixed, _ = retrieve(heads, self.key_value, memory, self.search, self.keep)
        return mixed.transpose(1, 2).flatten(2)


def retrieve(
    query: Float[Tensor, "B H N K"], key_value: nn.Linear | LinearMap, memory: Tokens, search: Search, keep: int
) -> tuple[Float[Tensor, "B H N K"], Float[Tensor, "B H N"]]:
    """What the heads of scaled queries take from the `keep` best states of a memory, whose keys and values `key_value` makes;
    and 1 where one found any, 0 where none is real.
    """
    to_keys, to_values = key_value.weight.unflatten(0, (2, *query.shape[1::2]))
    scores, index = search(query @ to_keys, memory, keep)
    weights = scores.softmax(-1)
    if memory.mask is not None:
        weights = weights * (scores > torch.finfo(scores.dtype).min)
    states = memory.values[torch.arange(memory.batch, device=index.device)[:, None, None, None], index]
    mixed = (weights[..., None, :] @ states)[..., 0, :] @ to_values.mT
    found = weights.sum(-1)
    if key_value.bias is not None:
        shift = key_value.bias.unflatten(0, (2, *query.shape[1::2]))[1]
        mixed = mixed + found[..., None] * shift[:, None]
    return mixed, found
