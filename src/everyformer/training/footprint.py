"""What a training step costs, by running it on the meta device: bytes alive at each moment, and FLOPs; nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from everyformer.costs import FOURIER
from everyformer.recipe import Training
from everyformer.training.lesson import Both
from everyformer.training.optimizers import find_optimizer
from everyformer.training.recompute import innermost, recompute


@dataclass(frozen=True)
class StepCost:
    """Bytes and FLOPs of one training step of one process."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass."""
    peak: int
    """The most that is alive at once, weights and optimiser counted."""
    forward_flops: int
    flops: int
    """Forward and backward."""

    def values(self) -> tuple[int, ...]:
        """The numbers in order."""
        return astuple(self)


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive: `now`, and at most (`peak`)."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def watch(self, tensor: Tensor) -> Tensor:
        """Count a tensor's storage, once, until it is gone."""
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = storage.nbytes()
            self._known[storage] = size
            weakref.finalize(storage, self._gone, size)
            self.now += size
            self.peak = max(self.peak, self.now)
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return tree_map_only(Tensor, self.watch, func(*args, **(kwargs or {})))

    def _gone(self, size: int) -> None:
        self.now -= size


_HALF = {
    nn.functional.linear, torch.matmul, torch.bmm, torch.mm, torch.addmm, torch.baddbmm, torch.einsum, Tensor.matmul,
    Tensor.__matmul__, Tensor.bmm, nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d,
    nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.scaled_dot_product_attention,
}  # fmt: skip
_WHOLE = {
    nn.functional.layer_norm, nn.functional.group_norm, nn.functional.softmax, nn.functional.log_softmax, torch.softmax, Tensor.softmax,
    nn.functional.cross_entropy, torch.exp, torch.log, torch.pow, torch.cumsum,
}  # fmt: skip


class Mixed(TorchFunctionMode):
    """torch.autocast to bfloat16, which has no rules for the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        dtype = torch.bfloat16 if func in _HALF else torch.float32 if func in _WHOLE else None
        if dtype is not None:
            args, kwargs = tree_map_only(Tensor, lambda x: x.to(dtype) if x.is_floating_point() else x, (args, kwargs))
        return func(*args, **kwargs)


class Fused(TorchFunctionMode):
    """Attention by the kernel that a GPU or a processor would take, which the meta device does not choose by itself.

    A processor's forms the weights where they are dropped out or where a bias learns.
    """

    def __init__(self, processor: bool) -> None:
        super().__init__()
        self.processor = processor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return self._attention(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _attention(
        self,
        plain: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        learns = attn_mask is not None and attn_mask.requires_grad
        if self.processor and (dropout_p or learns):
            return plain(
                query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
            )  # fmt: skip
        shared = query.shape[1] // key.shape[1]
        key, value = (
            x.unsqueeze(2).expand(-1, -1, shared, -1, -1).flatten(1, 2) if shared > 1 else x for x in (key, value)
        )
        if attn_mask is None:
            flash = torch.ops.aten._scaled_dot_product_flash_attention
            return flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        bias = attn_mask if attn_mask.is_floating_point() else torch.zeros_like(attn_mask, dtype=query.dtype)
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]


def step_cost(
    model: nn.Module,
    objective: nn.Module,
    batch: Mapping[str, Tensor],
    training: Training,
    *,
    precision: str = "fp32",
    processor: bool = False,
    sharded: bool = False,
) -> StepCost:
    """The cost of one step of a model on the meta device on a batch.

    `precision` is 'fp32' or 'bf16'; `processor`: it would run on a CPU, not on a GPU; `sharded`: each gradient leaves as soon
    as it is there, to the shards that it belongs to, and the peak counts none that are whole.
    """
    modes = partial(_modes, processor, precision)
    if training.recompute:
        # The modes of a forward pass do not reach what its backward pass computes again.
        for block in innermost(model):
            block.forward = _under(modes, block.forward)  # type: ignore[method-assign]
        recompute(model)
    both = Both(model.train(), objective)  # type: ignore[arg-type]
    optimizers = find_optimizer(training.optimizer)(both, training)
    inputs = {name: value.to("meta") for name, value in batch.items()}
    live = Live()
    for tensor in (*both.parameters(), *both.buffers()):
        live.watch(tensor)
    weights = live.now
    trained = [p for p in both.parameters() if p.requires_grad]
    if sharded:
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(_leave)
    with live, FlopCounterMode(display=False, depth=None, custom_mapping=FOURIER) as counter:
        with modes():
            total, _ = both(inputs)
        activations, forward = live.now - weights, counter.get_total_flops()
        total.backward()
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    for each in optimizers:
        each.step()
    kept = sum(value.nbytes for each in optimizers for state in each.state.values() for value in state.values())
    return StepCost(
        weights=weights, gradients=sum(each.nbytes for each in trained), optimizer=kept, activations=activations, peak=live.peak + kept,
        forward_flops=forward, flops=counter.get_total_flops(),
    )  # fmt: skip


@contextmanager
def _modes(processor: bool, precision: str) -> Iterator[None]:
    """The kernels and the precision of the device that would be used."""
    with Fused(processor), Mixed() if precision == "bf16" else nullcontext():
        yield


def _under(modes: Callable[[], AbstractContextManager[None]], forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Any) -> Any:
        with modes():
            return forward(*given)

    return run


def _leave(parameter: Tensor) -> None:
    parameter.grad = None
