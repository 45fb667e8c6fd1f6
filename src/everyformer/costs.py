"""What a design costs: parameters, and FLOPs counted on the meta device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from everyformer.designs import Design, parts_at, tree_lines
from everyformer.errors import EveryformerError


def _complex(shape: torch.Size, axes: list[int], *_: Any, **__: Any) -> int:
    """5 n log2 n for each transform of n numbers (Cooley and Tukey, 1965)."""
    return int(5 * math.prod(shape) * math.log2(math.prod(shape[axis] for axis in axes)))


def _to_complex(shape: torch.Size, axes: list[int], *_: Any, **__: Any) -> int:
    """Half of that where the numbers are real."""
    return _complex(shape, axes) // 2


def _to_real(shape: torch.Size, axes: list[int], *_: Any, out_shape: torch.Size, **__: Any) -> int:
    return _complex(out_shape, axes) // 2


FOURIER = {
    torch.ops.aten._fft_c2c: _complex,
    torch.ops.aten._fft_r2c: _to_complex,
    torch.ops.aten._fft_c2r: _to_real,
}
"""Fourier transforms, which PyTorch's counter leaves out."""


def parameters(module: nn.Module) -> int:
    """Distinct parameters (tied ones once), buffers not counted."""
    return sum({id(p): p.numel() for p in module.parameters()}.values())


def memory(module: nn.Module) -> int:
    """Bytes of the weights that are saved, parameters and buffers (tied ones once)."""
    kept = {id(each): each for each in module.state_dict(keep_vars=True).values()}
    return sum(each.nbytes for each in kept.values())


def flops(model: nn.Module, batch: Mapping[str, Tensor] | None = None) -> dict[str, int]:
    """Floating-point operations of one forward pass by module path ('' is the whole); a multiply-add counts two.

    `model` stands on the meta device, where PyTorch's counter sees fused attention too.
    """
    batch = batch if batch is not None else model.example()  # type: ignore[operator]
    inputs = {name: value.to("meta") for name, value in batch.items()}
    with (
        FlopCounterMode(display=False, depth=None, custom_mapping=FOURIER) as counter,
        torch.enable_grad(),
    ):  # its module tracker breaks without
        model(**inputs)
    prefix = type(model).__name__
    counted: dict[str, int] = {"": 0}
    for path, by_operation in counter.get_flop_counts().items():
        name = "" if path in ("Global", prefix) else path.removeprefix(prefix + ".")
        counted[name] = max(counted.get(name, 0), int(sum(by_operation.values())))
    return counted


@torch.no_grad()
def processor_seconds(*calls: Callable[[], object], repeats: int = 5) -> list[float]:
    """The least processor seconds of each call, timed in turns; what else runs on the machine counts little."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, seconds in zip(calls, found, strict=True):
            started = time.process_time()
            call()
            seconds.append(time.process_time() - started)
    return [min(each) for each in found]


def on_meta(design: Design) -> Any:
    """The model without weights."""
    return design.build(device="meta").eval()


def tree(design: Design) -> str:
    """The parts of a design as a tree, a line each with its parameters and FLOPs for one example."""
    model = on_meta(design)
    try:
        cost = flops(model)
    except (RuntimeError, NotImplementedError, EveryformerError):
        cost = {}
    names = {module: path for path, module in model.named_modules()}
    rows = []
    for depth, label, path, each, times in tree_lines(design):
        options = ", ".join(
            f"{name}={value!r}" for name, value in each.options.items() if not _inner(value)
        )  # fmt: skip
        many = f" x {times}" if times > 1 else ""
        copies = [copy for _, _, copy in parts_at(model, path)]
        size = f"{sum(map(parameters, copies)) * times:,}" if copies else ""
        operations = sum(cost.get(names[copy], 0) for copy in copies) * times
        work = _short(operations) if operations else ""
        rows.append((f"{'  ' * depth}{label}: {each.part.__name__}({options}){many}", size, work))
    wide = min(max(len(r[0]) for r in rows), 96)
    head = f"{'part':<{wide}}  {'parameters':>12}  {'FLOPs':>8}"
    return "\n".join([head, *(f"{text:<{wide}}  {size:>12}  {work:>8}".rstrip() for text, size, work in rows)])


def _inner(value: Any) -> bool:
    from everyformer.specs import Spec

    return isinstance(value, Spec) or (isinstance(value, tuple) and any(isinstance(v, Spec) for v in value))


def _short(count: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g} {unit}".strip()
        count /= 1000
    return f"{count:.3g} P"
