"""Padded batches through a whole model without their padding."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from everyformer.errors import DoesNotFit
from everyformer.models.model import Model
from everyformer.registry import method
from everyformer.tokens import Tokens, spread


class Unpadded(nn.Module):
    """A model whose padded batches are packed on the way in; what it says of each token is spread again, zero in the padding."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        if "lengths" not in model.embedding.fields:
            raise DoesNotFit(
                f"{type(model.embedding).__name__} takes no packed sequences; those of texts do, such as embeddings.Text",
                "embedding",
            )
        self.model = model

    def forward(self, inputs: Shaped[Tensor, "B N"], *, mask: Bool[Tensor, "B N"] | None = None, **fields: Any) -> Any:
        """The model's answer to padded ids; other `fields` that have a value for each token are packed as well."""
        if mask is None or bool(mask.all()):
            return self.model(inputs, **fields)
        packed = {
            name: each[mask][None] if isinstance(each, Tensor) and each.shape == mask.shape else each
            for name, each in fields.items()
        }
        answer = self.model(inputs[mask][None], lengths=mask.sum(1), **packed)
        if isinstance(answer, Tokens):
            return Tokens(spread(answer.values, mask), mask=mask, positions=spread(answer.places, mask))
        return spread(answer, mask) if answer.dim() == 3 else answer


@method(
    "bytetransformer",
    title="ByteTransformer: A High-Performance Transformer Boosted for Variable-Length Inputs",
    authors="Zhai et al.",
    year=2023,
    arxiv="2210.03052",
    idea="Take the padding out of a batch once, in front of the model: all that is worked on are real tokens.",
)
def unpadded(model: Model) -> Unpadded:
    """A model of padded texts, such as one that `ef.load` opens, that works on their real tokens alone (section III.D)."""
    return Unpadded(model)
