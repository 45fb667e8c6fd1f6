"""Weights rounded with nothing made up for: the plain way, which the others are held against."""

from __future__ import annotations

from torch import nn

from everyformer.compression.calibration import BLOCKS, Calibration, exchanged
from everyformer.compression.int8 import Int8
from everyformer.compression.quantized import Quantized
from everyformer.registry import method
from everyformer.specs import spec


@method(
    "rtn",
    title="Quantizing deep convolutional networks for efficient inference: A whitepaper",
    authors="Krishnamoorthi",
    year=2018,
    arxiv="1806.08342",
    idea="Round each weight to the nearest value of an even grid.",
)
def rtn(
    model: nn.Module,
    calibration: Calibration | None = None,
    *,
    bits: int = 8,
    group: int | str = "channel",
    symmetric: bool = False,
    paths: str = BLOCKS,
) -> nn.Module:
    """Section 3: a copy of the model with the weights at `paths` in `bits`; see `Quantized`. It looks at no data."""
    return exchanged(model, paths, spec(Quantized, bits=bits, group=group, symmetric=symmetric))[0]


@method(
    "llm-int8",
    title="LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale",
    authors="Dettmers et al.",
    year=2022,
    arxiv="2208.07339",
    idea="Multiply in whole numbers of 8 bits, with a scale for each token and each output found as they come.",
)
def int8(model: nn.Module, calibration: Calibration | None = None, *, paths: str = BLOCKS) -> nn.Module:
    """Section 3.1: a copy of the model that multiplies in 8 bits at `paths`; outlying inputs are not kept apart."""
    return exchanged(model, paths, spec(Int8))[0]
