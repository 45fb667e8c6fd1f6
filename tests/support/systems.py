"""Every registered system at a size that a test can afford.

A system whose smallest published size has few parameters needs nothing here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.costs import parameters
from everyformer.designs import Design
from everyformer.specs import Spec, signature

_TEXT = {"vocabulary": 20, "width": 32, "depth": 2, "heads": 4}
_PICTURES = {"classes": 3, "image": 16, "width": 32, "depth": 2, "heads": 4}
_PYRAMID = {"classes": 3, "image": 32, "depths": (1, 1)}
_HEADS = {**_PYRAMID, "heads": (2, 4)}
_SPATIAL = {**_HEADS, "widths": (16, 32), "reductions": (2, 1)}
_QUERIES = {
    "classes": 3, "image": 32, "stem": 4, "convs": (1, 1), "width": 16, "depth": 1, "decoder_depth": 2, "heads": 2,
    "hidden": 24, "queries": 5,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "2d-ssm": {**_PICTURES, "patch": 4},
    "agglomerative-transformer": {
        "classes": 3,
        "relations": 2,
        "image": 32,
        "stem": 4,
        "convs": (1, 1),
        "width": 16,
        "stage_depth": 1,
        "groups": (6, 4),
        "decoder_depth": 1,
        "heads": 2,
        "hidden": 24,
        "queries": 5,
        "name_width": 8,
    },
    "albert": {**_TEXT, "hidden": 48, "length": 16, "table_width": 16},
    "algoformer": {"vocabulary": 20, "width": 32, "turns": 2, "heads": 4, "length": 16},
    "alone": {**_TEXT, "hidden": 48, "inner": 24},
    "ast": {"classes": 3, "mels": 12, "frames": 20, "patch": 4, "stride": 3, "width": 32, "depth": 2, "heads": 4},
    "bart": {**_TEXT, "hidden": 48, "length": 16},
    "beit": {**_PICTURES, "patch": 4},
    "bert": {**_TEXT, "hidden": 48, "length": 16},
    "bigbird": {**_TEXT, "hidden": 48, "length": 16, "block": 1, "random": 1},
    "brainformer": {"vocabulary": 20, "width": 32, "hidden": 48, "repeats": 1, "heads": 4, "length": 16, "experts": 3},
    "caformer": {**_PYRAMID, "widths": (16, 32), "head_width": 8},
    "bloom": _TEXT,
    "cait": {**_PICTURES, "patch": 4},
    "causal-generation-function": {"vocabulary": 20, "width": 32, "depth": 2, "length": 16},
    "cct": {**_PICTURES, "hidden": 16},
    "coat": {
        **_HEADS,
        "widths": (16, 32),
        "heads": 2,
        "windows": ((3, 1), (5, 1)),
        "ratios": (2.0, 2.0),
        "layers": 1,
    },
    "clip": {
        "image": 16,
        "patch": 8,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "vocabulary": 20,
        "length": 16,
        "text_width": 16,
        "text_depth": 2,
        "text_heads": 2,
        "output": 8,
    },
    "combiner": {**_TEXT, "length": 16, "segment": 4},
    "compact-vit": _PICTURES,
    "convformer": {**_PYRAMID, "widths": (16, 32)},
    "convmixer": {"classes": 3, "image": 16, "patch": 4, "width": 32, "depth": 2, "kernel": 3},
    "convnext": {**_PYRAMID, "widths": (16, 32)},
    "cosformer": {**_TEXT, "length": 16},
    "cpvt": {**_PICTURES, "patch": 4},
    "cpt-chinese-unbalanced": {**_TEXT, "hidden": 48, "length": 16, "decoder_depth": 1},
    "crate": {**_PICTURES, "patch": 4},
    "crossvit": {
        "classes": 3,
        "image": 16,
        "small_image": 8,
        "patches": (4, 4),
        "width": 32,
        "narrow": 16,
        "depth": 1,
        "stages": 2,
        "heads": 4,
    },
    "cvt": {**_HEADS, "widths": (16, 32)},
    "deit": {**_PICTURES, "patch": 4},
    "deltanet": {**_TEXT, "hidden": 48},
    "denseformer": {**_TEXT, "depth": 3, "dilation": 2, "period": 1},
    "differential-transformer": {**_TEXT, "hidden": 48},
    "dinov2": {**_PICTURES, "patch": 4},
    "dpt": {
        "image": 16,
        "patch": 4,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "levels": (0, 1),
        "hidden": (8, 12),
        "factors": (2, 0.5),
        "fused": 8,
    },
    "fie": {**_TEXT, "hidden": 48, "length": 16, "shared": 2, "passages": 3, "longest": 3},
    "fit": {
        "classes": 3,
        "image": 16,
        "patch": 4,
        "window": 2,
        "width": 32,
        "heads": 4,
        "latents": 2,
        "rounds": 2,
        "local": 1,
        "outer": 1,
    },
    "etc": {**_TEXT, "hidden": 48, "window": 2, "block": 4},
    "ecoformer": {**_HEADS, "widths": (16, 32), "ratios": (2.0, 2.0)},
    "fnet": {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 2, "length": 16},
    "fod-anomaly": {
        "image": 32,
        "stem": 8,
        "convs": (1, 1),
        "levels": (0, 1),
        "inner": (16, 32),
        "depth": 2,
        "heads": 2,
    },
    "free-transformer": {**_TEXT, "hidden": 48, "key_heads": 2, "bits": 3},
    "ftp": {**_TEXT, "length": 16, "decoder_depth": 1, "ahead": 3, "pseudo": 2, "narrow": 16},
    "gated-deltanet": {**_TEXT, "hidden": 48, "head_width": 8},
    "gemma": {**_TEXT, "hidden": 48, "key_heads": 2, "head_width": 8, "window": 4},
    "dvt": {
        "classes": 3,
        "image": 16,
        "grids": (2, 3),
        "width": 16,
        "depth": 1,
        "heads": 2,
        "ratio": 2.0,
        "reused": 4,
        "inner": 8,
    },
    "edaformer": {
        **_HEADS,
        "widths": (16, 32),
        "pools": (2, 1),
        "decoder_depths": (1, 1),
        "decoder_pools": (2, 1),
        "hidden": 16,
    },
    "gasformer": {**_SPATIAL, "hidden": 16, "groups": 2, "rank": 3},
    "gla": {**_TEXT, "hidden": 48},
    "deepscalelm": {**_TEXT, "length": 16},
    "dense-transformer-networks": {"classes": 3, "image": 16, "widths": (8, 12, 16), "warped": 1, "apart": 3},
    "detr": _QUERIES,
    "emotion-aware-encoder": {**_TEXT, "hidden": 48, "length": 16, "emotions": 3, "detector_depth": 1},
    "gmm-mask-attention": _PICTURES,
    "git": {
        "image": 16,
        "patch": 8,
        "picture_width": 16,
        "picture_depth": 1,
        "picture_heads": 2,
        "vocabulary": 20,
        "length": 16,
        "width": 32,
        "depth": 2,
        "heads": 4,
    },
    "glpdepth": {key: value for key, value in {**_SPATIAL, "hidden": 16}.items() if key != "classes"},
    "gpt": {**_TEXT, "length": 16},
    "grit": {
        "image": 32,
        "patch": 8,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "window": 3,
        "whole": 1,
        "pretrained": 4,
        "hidden": 8,
        "groups": 2,
        "looks": 2,
        "look_hidden": 12,
        "before": 6,
        "count": 5,
        "side": 2,
        "vocabulary": 20,
        "length": 16,
        "text_width": 16,
        "text_depth": 1,
        "text_heads": 2,
    },
    "gpt-neox": {**_TEXT, "hidden": 48},
    "gtrans": {**_TEXT, "hidden": 48, "group": 2},
    "h-net": {"vocabulary": 20, "width": 32, "inner_width": 48, "outer": 1, "depth": 2, "heads": 4},
    "hierarchical-autoregressive": {
        "vocabulary": 20,
        "width": 32,
        "inner_width": 48,
        "outer": 1,
        "depth": 2,
        "heads": 4,
    },
    "hiera": {**_PYRAMID, "width": 16, "unit": 4, "local": 1},
    "hornet": {**_PYRAMID, "width": 16, "orders": (2, 3)},
    "hyena": {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 2, "length": 16},
    "hypothesis-b": {**_PICTURES, "patch": 8, "smallest": 4, "tokens": 10},
    "hypothesis-c": {**_PICTURES, "patch": 8, "fine": 4, "keep": 3},
    "hypothesis-c-across": {**_PICTURES, "patch": 4, "capacity": 6, "keep": 2},
    "hypothesis-d": {**_TEXT, "hidden": 48, "length": 16, "window": 4, "segment": 4, "chosen": 1},
    "i3d": {"classes": 3, "mels": 12, "frames": 20, "width": 32, "hidden": 48, "depth": 2, "heads": 4},
    "identityformer": {**_PYRAMID, "widths": (16, 32)},
    "inceptive-transformer": {**_TEXT, "hidden": 48, "length": 16, "classes": 3},
    "hmpe": _QUERIES,
    "informer": {
        "lookback": 12,
        "horizon": 4,
        "known": 6,
        "variates": 3,
        "width": 32,
        "hidden": 48,
        "depth": 2,
        "heads": 4,
        "factor": 1,
    },
    "intr": {
        "classes": 3,
        "image": 32,
        "stem": 4,
        "convs": (1, 1),
        "width": 16,
        "depth": 1,
        "decoder_depth": 2,
        "heads": 2,
        "hidden": 24,
    },
    "itransformer": {"lookback": 12, "horizon": 4, "variates": 3, "width": 32, "hidden": 48, "depth": 2, "heads": 4},
    "kmax-deeplab": {
        "classes": 3,
        "image": 32,
        "stem": 4,
        "convs": (1, 1),
        "hidden": 16,
        "pixel_depth": 1,
        "pixel_mlp": 24,
        "heads": 2,
        "mlp": 24,
        "queries": 5,
        "depths": (1,),
        "groups": 2,
    },
    "kernelized-transformer": {**_TEXT, "length": 16, "features": 32},
    "landmark-attention": {**_TEXT, "hidden": 48, "block": 3},
    "lane2seq": {
        "image": 16,
        "patch": 8,
        "picture_width": 16,
        "picture_depth": 1,
        "picture_heads": 2,
        "bins": 14,
        "length": 16,
        "width": 32,
        "depth": 1,
        "heads": 4,
    },
    "led": {**_TEXT, "hidden": 48, "length": 16, "target_length": 16, "window": 4},
    "linear-transformer": {**_TEXT, "hidden": 48, "length": 16},
    "linformer": {**_TEXT, "length": 16, "rank": 4},
    "llama": {**_TEXT, "hidden": 48, "key_heads": 2},
    "lit": {**_HEADS, "widths": (16, 32), "ratios": (2.0, 2.0), "attending": 1},
    "longformer": {**_TEXT, "hidden": 48, "length": 16, "window": 4},
    "lmuformer": {"classes": 3, "mels": 12, "frames": 20, "width": 32, "convs": 2, "window": 20.0},
    "mamba-2": {"vocabulary": 20, "width": 32, "depth": 2, "head_width": 16, "state": 8},
    "masformer": {**_TEXT, "length": 16, "full": (0,), "span": 4},
    "masked-mixer": {"vocabulary": 20, "width": 32, "depth": 2, "length": 16},
    "matformer": {**_TEXT, "hidden": 48},
    "maxvit": {**_PYRAMID, "stem": 16, "widths": (16, 32), "head_width": 8, "window": 4},
    "memoryformer": _TEXT,
    "maskformer": {
        "classes": 3,
        "image": 32,
        "stem": 4,
        "convs": (1, 1),
        "hidden": 16,
        "decoder_depth": 2,
        "heads": 2,
        "mlp": 24,
        "queries": 5,
        "groups": 2,
    },
    "mask2former": {
        **_HEADS,
        "width": 16,
        "window": 4,
        "hidden": 16,
        "levels": 1,
        "pixel_depth": 1,
        "decoder_depth": 2,
        "decoder_heads": 2,
        "mlp": 24,
        "pixel_mlp": 24,
        "queries": 5,
        "groups": 2,
    },
    "megabyte": {
        "vocabulary": 20,
        "length": 24,
        "patch": 3,
        "width": 48,
        "depth": 1,
        "heads": 4,
        "local_width": 16,
        "local_depth": 1,
        "local_heads": 2,
    },
    "mlp-mixer": {"classes": 3, "image": 16, "patch": 4, "width": 32, "depth": 2},
    "modernbert": {**_TEXT, "hidden": 48, "every": 2, "window": 4},
    "moe": {**_TEXT, "hidden": 24, "key_heads": 2, "experts": 3},
    "mp3": {**_PICTURES, "patch": 4, "classes": None},
    "mra-attention": {**_TEXT, "hidden": 48, "length": 16, "block": 2, "exact": 1},
    "nprf-rpe": {**_TEXT, "length": 16, "features": 32},
    "multi-encoder-transformer": {**_TEXT, "hidden": 48, "depth": 1},
    "multi-source-transformer": {**_TEXT, "hidden": 48, "depth": 1, "end": 3},
    "nystromformer": {**_TEXT, "hidden": 48, "length": 16, "landmarks": 4, "kernel": 3},
    "partialformer": {**_TEXT, "depth": 1, "decoder_depth": 1, "value_heads": 6, "decoder_value_heads": 6},
    "patternformer": {**_PICTURES, "stages": (6, 8), "patterns": 6, "side": 8},
    "performer": {**_TEXT, "hidden": 48, "length": 16, "features": 32},
    "pervasive-attention": {"vocabulary": 20, "width": 16, "layers": 2, "growth": 6},
    "pit": {**_HEADS, "width": 16, "patch": 8, "stride": 4},
    "ponet": {**_TEXT, "length": 16},
    "poolformer": {**_PYRAMID, "widths": (16, 32)},
    "power-softmax": {**_TEXT, "length": 16},
    "prob-opt-genai": {**_TEXT, "hidden": 48, "block": 2},
    "pvt": {**_SPATIAL, "ratios": (2.0, 2.0)},
    "pvt-v2": {**_SPATIAL, "ratios": (2.0, 2.0)},
    "quantizable-transformers": {**_TEXT, "length": 16},
    "randformer": {**_PYRAMID, "widths": (16, 32)},
    "recurrentgemma": {**_TEXT, "hidden": 48, "depth": 3, "key_heads": 1, "window": 4},
    "return-of-the-encoder": {**_TEXT, "hidden": 48, "key_heads": 2, "head_width": 8, "decoder_depth": 1},
    "reformer": {**_TEXT, "hidden": 48, "length": 16, "chunk": 4, "buckets": 4, "grid": None, "widths": None},
    "retnet": _TEXT,
    "residual-memory-transformer": {
        **_TEXT,
        "hidden": 48,
        "length": 16,
        "layers": 1,
        "memory_heads": 4,
        "memory_hidden": 48,
    },
    "rmt": {
        **_HEADS,
        "widths": (16, 32),
        "ratios": (2.0, 2.0),
        "reaches": (4.0, 6.0),
        "scales": (None, 0.1),
        "axial": 1,
        "hidden": 16,
    },
    "rwkv": {"vocabulary": 20, "width": 32, "depth": 2},
    "lka-monodepth": {key: value for key, value in {**_SPATIAL, "hidden": (16, 8)}.items() if key != "classes"},
    "segformer": _SPATIAL,
    "segformer-segmentation": {**_SPATIAL, "hidden": 16},
    "segmenter": {**_PICTURES, "patch": 4, "head_depth": 1},
    "self-transformer": {**_TEXT, "length": 16, "iterations": 4},
    "shift-equivariant-vit": {**_PICTURES, "patch": 4},
    "siglip": {**_PICTURES, "patch": 4},
    "spectral-dictionary-lm": {"vocabulary": 20, "width": 32, "length": 16, "atoms": 6, "window": 4},
    "spiking-lmuformer": {"classes": 3, "mels": 12, "frames": 20, "width": 32, "convs": 2, "window": 20.0},
    "spot-object-centric": {
        **{key: value for key, value in _PICTURES.items() if key != "classes"},
        "patch": 4,
        "slots": 3,
        "slot_width": 16,
        "slot_hidden": 24,
        "decoder_depth": 2,
        "decoder_heads": 2,
    },
    "ssa": {**_TEXT, "length": 16},
    "subformer": {**_TEXT, "hidden": 48, "depth": 4, "table_width": 16},
    "supervised-mim": {**_PICTURES, "patch": 4, "visual_words": 8, "decoder_depth": 1},
    "swin": {**_HEADS, "width": 16, "depths": (2, 1), "window": 4},
    "swin-v2": {**_HEADS, "width": 16, "depths": (2, 1), "window": 4},
    "t2t-vit": {**_PICTURES, "narrow": 8},
    "t5": {**_TEXT, "hidden": 48, "head_width": 8},
    "three-things-vit": {**_PICTURES, "strides": (2, 2)},
    "tnt": {**_PICTURES, "patch": 8, "word_width": 4, "word_heads": 2},
    "tokenformer": {**_TEXT, "tokens": 12},
    "transformer": {**_TEXT, "hidden": 48},
    "transunet": {
        **_PICTURES,
        "image": 32,
        "depth": 1,
        "stem": 4,
        "convs": (2, 1),
        "groups": 2,
        "first": 12,
        "hidden": (8, 8, 4),
    },
    "transformer-mgk": {**_TEXT, "hidden": 48, "length": 16},
    "transformer-xl": {**_TEXT, "hidden": 48, "memory": 16},
    "twins": {**_SPATIAL, "depths": (2, 2), "ratios": (2.0, 2.0), "window": 4},
    "unet": {"classes": 3, "image": 16, "widths": (8, 12, 16)},
    "upernet": {**_HEADS, "width": 16, "window": 4, "hidden": 16},
    "unified-normalization": {**_PICTURES, "patch": 4},
    "universal-transformer": {"vocabulary": 20, "width": 32, "hidden": 48, "turns": 3, "heads": 4},
    "urpe": {**_TEXT, "length": 16},
    "veto": {
        "groups": (2, 3),
        "channels": 3,
        "depth_channels": 2,
        "side": 4,
        "kinds": 6,
        "words": 8,
        "place_width": 8,
        "width": 32,
        "depth_width": 20,
        "depth": 2,
        "heads": 2,
    },
    "vikanformer": {**_PICTURES, "patch": 4},
    "vpnext": {**_PICTURES, "patch": 8, "depth": 3, "replayed": (1, 2), "hidden": (12, 8), "inner": 8},
    "wav2vec2": {
        **_TEXT,
        "hidden": 48,
        "convs": (8, 8),
        "kernels": (4, 2),
        "strides": (2, 2),
        "samples": 40,
        "places": 4,
        "groups": 2,
    },
    "weedsense": {
        "classes": 3,
        "weeks": 4,
        "image": 32,
        "detail": (6, 8),
        "stem": 4,
        "semantic": (6, 8),
        "depths": (1, 1),
        "ratio": 2.0,
        "hidden": 12,
        "deep": (0, 1),
        "deep_hidden": 6,
        "width": 16,
        "heads": 2,
        "mlp": 24,
        "traits": (12,),
    },
    "whisper": {**_TEXT, "mels": 12, "frames": 20, "length": 16},
    "turbovit": {**_PYRAMID, "width": 16, "unit": 4, "local": 1},
    "vit": {**_PICTURES, "patch": 4},
    "vit-lite": _PICTURES,
    "vit-mae": {**_PICTURES, "patch": 4, "classes": None, "narrow": 16, "narrow_depth": 1, "narrow_heads": 2},
    "vit-registers": {**_PICTURES, "patch": 4},
    "vit-resnas": {
        "classes": 3,
        "image": 16,
        "patch": 4,
        "middle": 4,
        "widths": (16, 32),
        "heads": ((2,), (2,)),
        "head_widths": (8, 8),
        "hidden": ((24,), (24,)),
    },
    "xcit": {**_PICTURES, "patch": 4},
    "yoso": {**_TEXT, "hidden": 48, "length": 16, "bits": 4, "hashes": None},
}
for _name in (
    "a-vit",
    "dynamic-vit",
    "evit",
    "ia-red2",
    "pitome",
    "token-transforming",
    "tokenlearner",
    "tome",
    "zero-tprune",
):
    OPTIONS[_name] = {**_PICTURES, "patch": 4}
OPTIONS["passt"] = {**OPTIONS["ast"], "rows": 1, "columns": 2}
LARGEST = 2_000_000


def failing(reason: str, *known: str) -> list[Any]:
    """The systems; of the `known` ones it is known that they fail, and for what reason."""
    mark = pytest.mark.xfail(strict=True, reason=reason)
    return [pytest.param(name, marks=mark) if name in known else name for name in systems()]


def systems() -> list[str]:
    """The names of all systems."""
    return [*ef.systems()]


def tiny(name: str, **more: Any) -> Design:
    """The design of a system, small, and without anything random."""
    options = {**OPTIONS.get(name, {}), **more}
    design = still(ef.design(name, **options))
    if parameters(design.build(device="meta")) > LARGEST:
        pytest.fail(f"'{name}' is too large to test: add a small size of it to OPTIONS in tests/support/systems.py")
    return design


def still(design: Design) -> Design:
    """The design with every dropout and every random depth at 0."""
    for path, spec in design.walk():
        off = {option: 0.0 for option in ("dropout", "rate") if spec.options.get(option)}
        if off:
            design = design.swap(path, spec.but(**off)) if path else Design(spec.but(**off), design.name)
            return still(design)
    return design


def model_of(design: Design, seed: int = 0) -> Any:
    """A model in evaluation mode, every parameter nudged so that none is exactly zero or one."""
    made = design.build(seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return made


IDLE: dict[type, tuple[str, ...]] = {
    ef.backbones.FreeLatent: ("encoder", "asked", "score", "divergence"),
    ef.mixers.MemorizingAttention: ("gate", "key_value"),
    ef.backbones.ClassBank: ("names",),
    ef.mixers.SpectralDictionary: ("prior", "rebuilt", "heard", "likely"),
    ef.models.Described: ("describer",),
    ef.models.Detecting: ("detector",),
    ef.models.FixedBody: ("embedding", "backbone"),
    ef.models.TwoDecoders: ("reader",),
    ef.mixers.Correlation: ("spread", "said"),
    ef.mixers.CrossCorrelation: ("said",),
    ef.heads.ContextReplay: ("offsets", "asks", "shows", "near", "far", "told"),
    ef.heads.CodePredictor: ("quantizer", "code"),
    ef.heads.Reassembled: ("beside.0",),
    ef.heads.ReassembledClasses: ("beside.0",),
}
"""What of a part works in training alone, or keeps a place free."""


def idle(model: nn.Module) -> tuple[str, ...]:
    """The paths at which stands what does not work here."""
    return tuple(
        f"{path}.{name}".lstrip(".") for path, module in model.named_modules() for name in IDLE.get(type(module), ())
    )


def takes(model: nn.Module, field: str) -> bool:
    """Whether the model, and the embedding of what goes in, take a field of a batch (mask, lengths)."""
    given = inspect.signature(model.forward).parameters
    passed = field in given or any(each.kind is each.VAR_KEYWORD for each in given.values())
    return passed and field in inspect.signature(entrance(model).forward).parameters


def entrance(model: nn.Module) -> Embedding:
    """The embedding of what goes in: the first one."""
    return next(module for module in model.modules() if isinstance(module, Embedding))


def said(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """All that a model says: its answer, and beside it what an objective would be told."""
    notes: dict[str, torch.Tensor] = {}
    answer = model(**batch, context=Context(notes=notes))
    spoken = [each.flatten() for each in notes.values() if each.is_floating_point()]
    return torch.cat([answer.flatten(), *spoken]) if spoken else answer


def causal(design: Design) -> bool:
    """Whether the answer at a token depends on no later token: a decoder stands in the design."""
    return any(issubclass(spec.part, ef.backbones.Decoder) for _, spec in design.walk() if isinstance(spec.part, type))


def options_of(spec: Spec[Any]) -> set[str]:
    """The names of a part's options."""
    return set(signature(spec.part))


def crossed(ones: Sequence[str], others: Sequence[Any], *, whole: Iterable[str], every: int) -> list[Any]:
    """Each of `ones` with each of `others`, as parameters: the `whole` ones with all, the rest with every so manieth.

    So each is met by some of the others however many there come to be; the pairs left over are marked slow.
    """
    return [
        pytest.param(one, other, marks=[] if one in whole or (i + j) % every == 0 else pytest.mark.slow)
        for i, one in enumerate(ones)
        for j, other in enumerate(others)
    ]
