"""The Residual Memory Transformer (Zhang et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.models.residual_memory import beside
from everyformer.published.gpt import gpt
from everyformer.published.upon import upon
from everyformer.registry import system


@system(
    "residual-memory-transformer",
    title="Controllable Text Generation with Residual Memory Transformer",
    authors="Zhang et al.",
    year=2023,
    arxiv="2309.16231",
    idea="A small encoder-decoder reads a control text and the states of a frozen language model, and adds its logits to theirs.",
    tasks=("translation",),
    default="small",
    sizes={
        "small": {"width": 768, "depth": 12, "heads": 12},
        "medium": {"width": 1024, "depth": 24, "heads": 16},
        "large": {"width": 1280, "depth": 36, "heads": 20},
    },
)
@upon(gpt)
def residual_memory_transformer(
    design: Design,
    *,
    vocabulary: int = 50257,
    dropout: float = 0.1,
    layers: int = 3,
    memory_heads: int = 8,
    memory_hidden: int = 2048,
    control: float = 0.5,
) -> Design:
    """Sizes of GPT-2, beside which `layers` layers on each side, of the widths of PyTorch's own, as in the authors' code.

    `models.residual_memory(model)` puts the same beside a language model that is trained already.
    """
    made = beside(
        design.spec, vocabulary=vocabulary, layers=layers, heads=memory_heads, hidden=memory_hidden, control=control,
        dropout=dropout,
    )  # fmt: skip
    return Design(made)
