"""Two views of one input: tokens, and a memory beside them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class Beside(Embedding):
    """The tokens of one embedding; those of another become the memory `name`, for mixers that read it."""

    def __init__(self, width: int, *, tokens: Spec[Embedding], memory: Spec[Embedding], name: str = "fine") -> None:
        super().__init__()
        self.tokens: Embedding = self.make("tokens", tokens, width)
        self.memory: Embedding = self.make("memory", memory, width)
        self.name, self.gives_grid = name, self.tokens.gives_grid

    def forward(self, inputs: Tensor, context: Context | None = None) -> Tokens:  # type: ignore[override]
        """The tokens; the memory stands in the context, which is asked for."""
        if context is None:
            raise BadInput(
                f"Beside puts the memory '{self.name}' into a context; pass one: embedding(inputs, Context())"
            )
        context.memory = {**context.memory, self.name: self.memory(inputs, context)}
        return self.tokens(inputs, context)

    def example(self, batch: int = 1, **options: Any) -> dict[str, Tensor]:
        """What its embedding of tokens takes."""
        return self.tokens.example(batch, **options)
