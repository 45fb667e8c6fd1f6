"""The Free Transformer (Fleuret, 2025)."""

from __future__ import annotations

from everyformer.backbones import FreeLatent, PairedBlock
from everyformer.designs import Design
from everyformer.mixers import PairedAttention
from everyformer.published.llama import llama
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "free-transformer",
    title="The Free Transformer",
    authors="Fleuret",
    year=2025,
    arxiv="2510.17558",
    idea="Half-way up a decoder each token is given random bits, which an encoder used in training alone has filled with meaning.",
    tasks=("language-modelling",),
    default="8b",
    sizes={
        "nano": {"width": 128, "hidden": 344, "depth": 4, "heads": 4, "bits": 8, "free": 0.0625},
        "8b": {"width": 4096, "hidden": 14336, "depth": 32, "heads": 32, "key_heads": 8},
    },
)
def free_transformer(
    *,
    vocabulary: int = 128256,
    width: int = 4096,
    hidden: int | None = None,
    depth: int = 32,
    heads: int = 32,
    key_heads: int | None = None,
    base: float = 500000.0,
    tied: bool = False,
    bits: int = 16,
    free: float = 0.5,
    dropout: float = 0.0,
    eps: float = 1e-5,
) -> Design:
    """Section 3.2, in the frame and the sizes of Llama 3: block depth / 2 + 1 is given `bits`, `free` of them for nothing."""
    if depth < 2:
        raise ValueError(f"half of the blocks stand before the bits, so there are at least 2; given depth {depth}")
    plain = llama(
        vocabulary=vocabulary, width=width, hidden=hidden, depth=depth, heads=heads, key_heads=key_heads, base=base,
        tied=tied, dropout=dropout, eps=eps,
    )  # fmt: skip
    middle = f"backbone.blocks.{depth // 2}"
    block = plain.get(middle)
    paired = spec(
        PairedBlock, mixer=Spec(PairedAttention, block.get("mixer").options), feedforward=block.get("feedforward"),
        residual=block.get("residual"),
    )  # fmt: skip
    return plain.swap(middle, spec(FreeLatent, bits=bits, free=free, block=paired, encoder=paired))
