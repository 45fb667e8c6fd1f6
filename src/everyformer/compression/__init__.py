"""A trained model into a smaller or faster one."""

from everyformer.compression.adapters import LoRA, train_adapters
from everyformer.compression.gptq import gptq
from everyformer.compression.inputs import EachToken, Fixed, InputGrid
from everyformer.compression.int8 import Int8
from everyformer.compression.low_rank import LowRank
from everyformer.compression.migration import awq, os_plus, smoothquant
from everyformer.compression.quantized import Quantized
from everyformer.compression.rounding import int8, rtn

__all__ = [
    "EachToken",
    "Fixed",
    "InputGrid",
    "Int8",
    "LoRA",
    "LowRank",
    "Quantized",
    "awq",
    "gptq",
    "int8",
    "os_plus",
    "rtn",
    "smoothquant",
    "train_adapters",
]
