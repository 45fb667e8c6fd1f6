"""Attention whose heads each pass a small feedforward, which is all the feedforward there is (PartialFormer)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Position, ScoreStep
from everyformer.masks import Full, Mask
from everyformer.mixers.attention import Attention, CrossAttention
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


class HeadFeedForward(nn.Module):
    """(y + W2 act(W1 y)) relu(u) for the answer y of each head, one W1 and W2 for all (Zheng et al., 2024, official code)."""

    def __init__(self, head_width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(head_width, hidden), nn.Linear(hidden, head_width)
        self.activation = activation_named(activation)

    def forward(self, mixed: Float[Tensor, "B N E"], gate: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        """What all heads say, gated."""
        heads = mixed.unflatten(-1, (-1, self.up.in_features))
        return (heads + self.down(self.activation(self.up(heads)))).flatten(-2) * gate.relu()


@part("mixers")
class PartialAttention(Attention):
    """W_o (Y relu(u)) with u linear in the tokens and Y the heads after a feedforward (Zheng et al., PartialFormer, 2024).

    `steps` change the scores: where there are other `value_heads` than `heads` one of them must make as many (head scaling),
    and one may add those of `backbones.FirstScores` (residual-like attention). It stands for a feedforward as well.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        value_heads: int | None = None,
        head_width: int | None = None,
        ratio: int = 4,
        activation: str = "relu",
        steps: tuple[Spec[ScoreStep], ...] = (),
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=heads, head_width=head_width, positions=positions, mask=mask, dropout=dropout,
            steps=steps,
        )  # fmt: skip
        inner, wide = self.heads * self.head_width, (value_heads or heads) * self.head_width
        self.sizes = inner, inner, wide
        self.qkv = nn.Linear(width, sum(self.sizes))
        self.gate = nn.Linear(width, wide)
        self.part = HeadFeedForward(self.head_width, ratio * self.head_width, activation)
        self.output = nn.Linear(wide, width)

    def units(self) -> None:
        """None: the heads share what comes after them."""

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """Queries, keys and values of all heads, and the gate of each."""
        return torch.cat((self.qkv(tokens.values), self.gate(tokens.values)), -1)

    def _mix(self, qkv: Tensor, tokens: Tokens, context: Context) -> Tensor:
        qkv, gate = qkv.split([sum(self.sizes), self.sizes[2]], -1)
        return self.part(super()._mix(qkv, tokens, context), gate)


@part("mixers")
class PartialCrossAttention(CrossAttention):
    """The same over a memory (Zheng et al., PartialFormer, 2024)."""

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        value_heads: int | None = None,
        head_width: int | None = None,
        ratio: int = 4,
        activation: str = "relu",
        memory: str = "encoder",
        memory_width: int | None = None,
        steps: tuple[Spec[ScoreStep], ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads=heads, head_width=head_width, memory=memory, dropout=dropout, steps=steps)
        inner, wide = self.heads * self.head_width, (value_heads or heads) * self.head_width
        self.sizes = inner, wide
        self.key_value = nn.Linear(memory_width or width, sum(self.sizes))
        self.gate = nn.Linear(width, wide)
        self.part = HeadFeedForward(self.head_width, ratio * self.head_width, activation)
        self.output = nn.Linear(wide, width)

    def units(self) -> None:
        """None: the heads share what comes after them."""

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """The queries of all heads, and the gate of each."""
        return torch.cat((self.query(tokens.values), self.gate(tokens.values)), -1)

    def keys_values(self, memory: Tokens) -> tuple[Float[Tensor, "B H M K"], Float[Tensor, "B P M K"]]:
        """The keys and the values of a memory."""
        key, value = self.key_value(memory.values).split(self.sizes, -1)
        return self.split(key, self.key_heads), self.split(value, -1)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        query, gate = query.tensor_split([self.heads * self.head_width], -1)
        return self.part(super()._mix(query, key, value, sight, context), gate)


@part("mixers")
class CrossedAttention(PartialAttention):
    """`PartialAttention` with a head for each pair of `key_heads` queries and as many keys: the scores of the i-th query with
    the j-th key stand in head `j * key_heads + i` (head scaling, "m2m"; official code, which counts the heads by queries).
    """

    def __init__(
        self,
        width: int,
        *,
        key_heads: int = 2,
        head_width: int | None = None,
        ratio: int = 4,
        activation: str = "relu",
        steps: tuple[Spec[ScoreStep], ...] = (),
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=key_heads**2, head_width=head_width, ratio=ratio, activation=activation,
            steps=steps, positions=positions, mask=mask, dropout=dropout,
        )  # fmt: skip
        self.key_heads, inner = key_heads, self.heads * self.head_width
        self.sizes = inner, inner // key_heads, inner
        self.qkv = nn.Linear(width, inner + 2 * (inner // key_heads))

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """The queries once for each key, keys and values, and the gate of each head."""
        query, rest = self.qkv(tokens.values).tensor_split([self.sizes[1]], -1)
        return torch.cat((query.repeat(1, 1, self.key_heads), rest, self.gate(tokens.values)), -1)


@part("mixers")
class CrossedCrossAttention(PartialCrossAttention):
    """The same over a memory."""

    def __init__(
        self,
        width: int,
        *,
        key_heads: int = 2,
        head_width: int | None = None,
        ratio: int = 4,
        activation: str = "relu",
        memory: str = "encoder",
        memory_width: int | None = None,
        steps: tuple[Spec[ScoreStep], ...] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, heads=key_heads**2, head_width=head_width, ratio=ratio, activation=activation,
            memory=memory, memory_width=memory_width, steps=steps, dropout=dropout,
        )  # fmt: skip
        self.key_heads, inner = key_heads, self.heads * self.head_width
        self.sizes = inner // key_heads, inner
        self.query = nn.Linear(width, self.sizes[0])
        self.key_value = nn.Linear(memory_width or width, sum(self.sizes))

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """The queries once for each key, and the gate of each head."""
        query = self.query(tokens.values).repeat(1, 1, self.key_heads)
        return torch.cat((query, self.gate(tokens.values)), -1)
