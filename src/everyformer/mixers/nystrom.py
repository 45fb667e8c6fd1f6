"""Attention by landmarks: the Nystroem method on the softmax matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.dropout import dropout as random_zeros
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("mixers")
class NystromAttention(Mixer):
    """softmax(Q L_k^T) softmax(L_q L_k^T)^+ softmax(L_q K^T) V, with means of segments as landmarks L.

    Xiong et al., Nystroemformer, 2021, equations 13 and 14; the pseudoinverse in `iterations` steps (equation 11). A
    depthwise convolution of the values over `kernel` tokens is added (section 3.2, figure 2; None: not). With no more
    tokens than landmarks it is attention itself. Cost: N times `landmarks` scores.
    """

    capabilities = frozenset({"ordered"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        landmarks: int = 64,
        iterations: int = 6,
        kernel: int | None = 65,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        if kernel is not None and kernel % 2 == 0:
            raise ValueError(f"kernel is odd, so that a token stands in the middle; given {kernel}")
        self.heads, self.landmarks, self.iterations, self.dropout = heads, landmarks, iterations, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.conv = None
        if kernel is not None:
            self.conv = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), bias=False, groups=heads)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        if context is not None and context.cache is not None:
            raise BadInput("landmarks are means over the whole sequence; generate without a cache")
        qkv = self.qkv(tokens.values).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scale = query.shape[-1] ** -0.25
        mixed = self.approximate(query * scale, key * scale, value)
        if self.conv is not None:
            mixed = mixed + self.conv(value)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def approximate(
        self, query: Float[Tensor, "B H N K"], key: Float[Tensor, "B H N K"], value: Float[Tensor, "B H N V"]
    ) -> Float[Tensor, "B H N V"]:
        """About softmax(q k^T) v."""
        if query.shape[2] <= self.landmarks:
            return self._dropped((query @ key.mT).softmax(-1)) @ value
        near, far = segment_means(query, self.landmarks), segment_means(key, self.landmarks)
        left = (query @ far.mT).softmax(-1)
        middle = pseudoinverse((near @ far.mT).softmax(-1), self.iterations)
        right = (near @ key.mT).softmax(-1)
        return self._dropped(left @ middle) @ (right @ value)

    def _dropped(self, weights: Tensor) -> Tensor:
        return random_zeros(weights, self.dropout) if self.training and self.dropout else weights


def segment_means(x: Float[Tensor, "B H N K"], count: int) -> Float[Tensor, "B H L K"]:
    """Means over `count` segments of the tokens, of lengths that differ by one at most."""
    total = x.shape[2]
    owner = torch.arange(total, device=x.device) * count // total
    sums = x.new_zeros(*x.shape[:2], count, x.shape[3]).index_add(2, owner, x)
    sizes = x.new_zeros(count).index_add(0, owner, x.new_ones(total))
    return sums / sizes[:, None]


def pseudoinverse(matrix: Float[Tensor, "B H L L"], iterations: int) -> Float[Tensor, "B H L L"]:
    """The Moore-Penrose inverse of matrices whose rows sum to 1 (equation 11, begun with A^T / (|A|_1 |A|_inf)).

    |A|_1 is the largest of all heads, as in the authors' code, which takes the largest of the batch too.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    found = matrix.mT / matrix.sum(-2).amax((1, 2))[:, None, None, None]
    for _ in range(iterations):
        both = matrix @ found
        found = 0.25 * found @ (13 * identity - both @ (15 * identity - both @ (7 * identity - both)))
    return found
