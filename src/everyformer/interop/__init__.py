"""Ways in from other libraries and out to them."""

from everyformer.interop.adapters import load_adapter, save_adapter
from everyformer.interop.checkpoint import Checkpoint, load
from everyformer.interop.export import to_folder
from everyformer.interop.graph import to_onnx, to_torch
from everyformer.interop.live import from_transformers, to_transformers
from everyformer.interop.timm import from_timm

__all__ = [
    "Checkpoint",
    "from_timm",
    "from_transformers",
    "load",
    "load_adapter",
    "save_adapter",
    "to_folder",
    "to_onnx",
    "to_torch",
    "to_transformers",
]
