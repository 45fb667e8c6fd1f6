"""One class for a whole input, said twice: to the labels and to a teacher."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens, unpack


@part("heads")
class DistilledHead(Head):
    """The mean of two linear answers, of the class token and of the distillation token after it (DeiT, 2021, section 4).

    An objective that asks for notes finds each answer by what it learns from: 'labels' and 'teacher'.
    """

    leads = 2

    def __init__(self, width: int, *, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.classify = nn.Linear(width, classes)
        self.distil = nn.Linear(width, classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B classes"]:
        """The mean of both logits of each class."""
        if tokens.prefix < self.leads:
            raise BadInput(
                f"DistilledHead reads a class token and a distillation token, and {tokens.prefix} tokens lead; "
                "give the embedding first=2"
            )
        values = unpack(tokens).values if tokens.lengths is not None else tokens.values
        told, taught = self.classify(values[:, 0]), self.distil(values[:, 1])
        if context is not None and context.notes is not None:
            context.notes |= {"labels": told, "teacher": taught}
        return (told + taught) / 2
