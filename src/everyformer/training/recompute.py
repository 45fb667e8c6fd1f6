"""Training that keeps little of each block: it is computed again when the backward pass comes to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from everyformer.context import Context
from everyformer.contracts import Norm
from everyformer.errors import DoesNotFit
from everyformer.training.shards import blocks_of


def recompute(model: nn.Module) -> int:
    """From now on each innermost block keeps its input alone for the backward pass, and gives how many there are.

    Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, section 4. A block that counts what it sees is refused
    (DoesNotFit): it would count twice.
    """
    inner = innermost(model)
    for block in inner:
        for path, module in block.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or (isinstance(module, Norm) and module.counts):
                raise DoesNotFit(
                    f"{type(module).__name__} counts what it sees, and would count twice in a block that is computed again; "
                    "leave training.recompute=true out, or exchange it: norms.LayerNorm does not count",
                    path,
                )
    for block in inner:
        block.forward = _again(block.forward)  # type: ignore[method-assign]
    return len(inner)


def innermost(model: nn.Module) -> list[nn.Module]:
    """The blocks that hold no others."""
    blocks = blocks_of(model)
    return [block for block in blocks if not any(other in blocks for other in [*block.modules()][1:])]


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A block's forward pass, whose second run finds the context as the first one did."""

    def run(tokens: Any, context: Context | None = None) -> Any:
        if not torch.is_grad_enabled():
            return forward(tokens, context)
        context = context or Context()
        before, first = context.fork(), [context]
        return checkpoint(lambda: forward(tokens, first.pop() if first else before.fork()), use_reentrant=False)

    return run
