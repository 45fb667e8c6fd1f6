"""A language model whose tokens come in as drawings that are never trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from everyformer.designs import design_of
from everyformer.edits import resize, swap
from everyformer.embeddings import FixedVectors, Text
from everyformer.embeddings.glyphs import glyph_vectors
from everyformer.errors import BadInput, DoesNotFit
from everyformer.heads import TokenHead
from everyformer.models.model import Model
from everyformer.registry import method
from everyformer.specs import Spec, spec


@method(
    "frozen-visual-unicode",
    title="Emergent Semantics Beyond Token Embeddings: Transformer LMs with Frozen Visual Unicode Representations",
    authors="Bochkov",
    year=2025,
    arxiv="2507.04886",
    idea="Tokens come in as principal components of how their characters are drawn, which are never trained.",
)
def frozen_glyphs(
    model: Model, tokens: Sequence[str], *, side: int = 16, font: str | None = None, seed: int = 0
) -> Model:
    """Put drawings of `tokens`, the text of each id in order, in the place of a model's table, and return the model.

    A head that was tied to the table starts anew, with weights of its own.
    """
    design = design_of(model)
    if not isinstance(model, Model) or not isinstance(model.embedding, Text):
        raise DoesNotFit(f"a model of one text; given '{design.name}'", "embedding")
    vocabulary = design.get("embedding.vocabulary")
    if len(tokens) != vocabulary:
        raise BadInput(f"{len(tokens)} tokens for a vocabulary of {vocabulary}; give the text of every id, in order")
    head = design.get("head")
    if head is not None and head.part.tied:
        swap(model, "head", Spec(TokenHead, dict(head.options)), seed=seed)
    resize(model, "embedding.table", spec(FixedVectors), seed=seed)
    table = model.embedding.table
    with torch.no_grad():
        table.vectors.copy_(glyph_vectors(tokens, table.width, side=side, font=font, seed=seed))
    return model
