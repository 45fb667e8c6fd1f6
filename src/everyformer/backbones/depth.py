"""Depth as a resource: what each block of a stack, and what comes after the stack, reads of all outputs before it."""

from __future__ import annotations

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.contracts import Norm
from everyformer.norms import LayerNorm
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec


class Depth(Part):
    """Base: built with the width and the number of blocks; `forward(outputs)` gives what is read next.

    `outputs` are the values that entered the stack and those after each block so far, all (B, N, D).
    """

    def forward(self, outputs: list[Tensor]) -> Float[Tensor, "B N D"]:
        """What the next block, or the last norm, reads."""
        raise NotImplementedError


@part("backbones")
class DepthWeighted(Depth):
    """After each `period`-th block a learned sum of its output and earlier ones (Pagliardini et al., 2024, section 3).

    Of the earlier ones only each `dilation`-th is read. At the start it is the plain stack.
    """

    def __init__(self, width: int, blocks: int, *, dilation: int = 1, period: int = 1) -> None:
        super().__init__()
        if dilation < 1 or period < 1:
            raise ValueError(f"dilation and period are at least 1; given {dilation} and {period}")
        self.dilation, self.period = dilation, period
        read = [at // dilation + 1 for at in range(period, blocks + 1, period)]
        self.starts = [0, *accumulate(read)]
        self.weight = nn.Parameter(torch.zeros(self.starts[-1]))
        with torch.no_grad():
            self.weight[[end - 1 for end in self.starts[1:]]] = 1.0

    def forward(self, outputs: list[Tensor]) -> Float[Tensor, "B N D"]:
        """The sum over outputs i, i - dilation, ..., or output i where none stands after block i (equation 3)."""
        block = len(outputs) - 1
        if block % self.period:
            return outputs[-1]
        at = block // self.period
        weight = self.weight[self.starts[at - 1] : self.starts[at]]
        read = outputs[block % self.dilation :: self.dilation]
        return torch.stack(read, -1) @ weight


@part("backbones")
class Fused(Depth):
    """After the last block the sum of the outputs of all groups of `group` blocks, gated (Yang et al., GTrans, 2023).

    norm(sum_k sigmoid(w_k) norm_k(h_k)) with h_k the output of the last block of group k.
    """

    def __init__(self, width: int, blocks: int, *, group: int = 1, norm: Spec[Norm] = spec(LayerNorm)) -> None:  # noqa: B008
        super().__init__()
        if blocks % group:
            raise ValueError(f"{blocks} blocks do not fall into groups of {group}; choose a divisor")
        self.blocks, self.group = blocks, group
        self.norm = self.make("norm", (norm,) * (blocks // group + 1), width)
        self.weight = nn.Parameter(torch.zeros(blocks // group))

    def forward(self, outputs: list[Tensor]) -> Float[Tensor, "B N D"]:
        """The fused outputs after the last block, the last output before."""
        if len(outputs) <= self.blocks:
            return outputs[-1]
        groups = outputs[self.group :: self.group]
        *each, last = self.norm
        gated = [gate * norm(values) for gate, norm, values in zip(self.weight.sigmoid(), each, groups, strict=True)]
        return last(torch.stack(gated).sum(0))
