"""A trained model into a smaller or faster one."""

from everyformer.compression.adapters import LoRA, train_adapters
from everyformer.compression.adaptive import acm
from everyformer.compression.axformer import axformer
from everyformer.compression.budgets import at_equal_cost
from everyformer.compression.compatible import bt2
from everyformer.compression.exits import eco_m2f
from everyformer.compression.factors import DenseSparse, StraightThrough, dsformer
from everyformer.compression.gptq import gptq
from everyformer.compression.importance import head_pruning, layer_pruning
from everyformer.compression.inputs import EachToken, Fixed, InputGrid
from everyformer.compression.int8 import Int8
from everyformer.compression.learngene import tleg
from everyformer.compression.low_rank import LowRank
from everyformer.compression.migration import awq, os_plus, smoothquant
from everyformer.compression.optin import optin
from everyformer.compression.orders import in_every_order
from everyformer.compression.personal import personalised
from everyformer.compression.pruning import sparsegpt, wanda
from everyformer.compression.pyra import pyra
from everyformer.compression.quantized import Quantized
from everyformer.compression.repquant import repquant
from everyformer.compression.rounding import int8, rtn
from everyformer.compression.sparse import Sparse
from everyformer.compression.vocabulary import idt5
from everyformer.compression.vtrans import vtrans

__all__ = [
    "DenseSparse", "EachToken", "Fixed", "InputGrid", "Int8", "LoRA", "LowRank", "Quantized", "Sparse",
    "StraightThrough", "acm", "at_equal_cost", "awq", "axformer", "bt2", "dsformer", "eco_m2f", "gptq",
    "head_pruning", "idt5", "in_every_order", "int8", "layer_pruning", "optin", "os_plus", "personalised", "pyra",
    "repquant", "rtn", "smoothquant", "sparsegpt", "tleg", "train_adapters", "vtrans", "wanda",
]  # fmt: skip
