"""FiE, fusion in the encoder (Kedia et al., 2022)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Passages
from everyformer.heads import SpanHead
from everyformer.mixers import FusedAttention
from everyformer.published.bert import bert
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "fie",
    title="FiE: Building a Global Probability Space by Leveraging Early Fusion in Encoder for Open-Domain Question Answering",
    authors="Kedia et al.",
    year=2022,
    arxiv="2211.10147",
    idea="Shared tokens carry facts between passages in every layer, and one softmax over the spans of all gives the answer.",
    tasks=("question-answering",),
    default="base",
    sizes={
        "tiny": {"width": 128, "depth": 2, "heads": 2, "shared": 4},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "large": {"width": 1024, "depth": 24, "heads": 16},
    },
)
@upon(bert, fixed={"classes": None, "table_width": None, "head_dropout": None})
def fie(
    design: Design,
    *,
    heads: int = 12,
    shared: int = 10,
    passages: int = 100,
    longest: int = 10,
    attention_dropout: float = 0.1,
) -> Design:
    """ELECTRA, whose layers are BERT's, over as many as `passages` passages, each behind `shared` tokens."""
    text = {name: value for name, value in design.get("embedding").options.items() if name != "table_width"}
    design = design.swap("embedding", spec(Passages, shared=shared, passages=passages, **text))
    mixer = spec(FusedAttention, heads=heads, shared=shared, dropout=attention_dropout)
    design = design.swap("backbone.blocks.*.mixer", mixer)
    return design.swap("head", spec(SpanHead, shared=shared, longest=longest))
