"""A trained model into a smaller or faster one."""

from everyformer.compression.adapters import LoRA, train_adapters
from everyformer.compression.exits import eco_m2f
from everyformer.compression.gptq import gptq
from everyformer.compression.inputs import EachToken, Fixed, InputGrid
from everyformer.compression.int8 import Int8
from everyformer.compression.low_rank import LowRank
from everyformer.compression.migration import awq, os_plus, smoothquant
from everyformer.compression.pruning import sparsegpt, wanda
from everyformer.compression.quantized import Quantized
from everyformer.compression.rounding import int8, rtn
from everyformer.compression.sparse import Sparse

__all__ = [
    "EachToken", "Fixed", "InputGrid", "Int8", "LoRA", "LowRank", "Quantized", "Sparse", "awq", "eco_m2f", "gptq", "int8",
    "os_plus", "rtn", "smoothquant", "sparsegpt", "train_adapters", "wanda",
]  # fmt: skip
