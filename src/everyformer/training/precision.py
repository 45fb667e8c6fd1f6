"""Which number format this machine is fast at, by what it says of itself; nothing is timed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from everyformer.errors import UnknownName
from everyformer.models.formats import use_bfloat16
from everyformer.training.optimizers import common_width


@dataclass(frozen=True)
class Precision:
    """A format and why it was taken."""

    name: str
    """'bf16' (matrix products in bfloat16, weights in float32) or 'fp32'."""
    why: str

    @property
    def fabric(self) -> Literal["bf16-mixed", "32-true"]:
        """Lightning's name for it."""
        return "bf16-mixed" if self.name == "bf16" else "32-true"

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


PAYS_FROM = 96
"""Side of a matrix from which bfloat16 is faster on a processor that has it; below, conversion costs more."""


def choose(asked: str, width: int = PAYS_FROM) -> Precision:
    """The format for `asked`: 'auto', 'bf16' or 'fp32'; `width` is the common side of the model's matrices."""
    if asked in ("bf16", "fp32"):
        return Precision(asked, "as asked")
    if asked != "auto":
        raise UnknownName("precision", asked, ("auto", "bf16", "fp32"))
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16", f"{name} is fast at bfloat16")
        return Precision("fp32", f"{name} has no bfloat16")
    return _processor(width)


def use(model: nn.Module, asked: str) -> nn.Module:
    """A trained model in the format that is asked for, for use and not for training."""
    chosen = choose(asked, common_width(model))
    return use_bfloat16(model) if chosen.name == "bf16" else model


def _processor(width: int) -> Precision:
    level = torch.backends.cpu.get_cpu_capability()
    if level != "AVX512":
        return Precision("fp32", f"bfloat16 is slow on a processor used as {level}")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    if not (limit in ("ALL", "DEFAULT") or any(each in limit for each in ("BF16", "FP16", "AMX", "AVX10"))):
        return Precision("fp32", f"bfloat16 is slow with ONEDNN_MAX_CPU_ISA={limit}")
    for name, has in (
        ("AMX", torch.cpu._is_amx_tile_supported()),
        ("AVX512-BF16", torch.cpu._is_avx512_bf16_supported()),
    ):
        if has and width < PAYS_FROM:
            return Precision("fp32", f"matrices {width} wide are too small for bfloat16 to pay")
        if has:
            return Precision("bf16", f"this processor has {name}")
    return Precision("fp32", "this processor has neither AMX nor AVX512-BF16")
