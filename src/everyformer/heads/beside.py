"""Several heads on the same tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("heads")
class Beside(Head):
    """The answer of `head`; where an objective asks for notes, those of the heads `beside` it, by their `names`
    (Devlin et al., BERT, 2019, section 3.1: masked words, and whether the second sentence followed the first).
    """

    def __init__(
        self, width: int, *, head: Spec[Head], beside: tuple[Spec[Head], ...] = (), names: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        if len(beside) != len(names):
            raise BadInput(f"{len(beside)} heads beside the first, and names={names}; give each a name")
        self.head: Any = self.make("head", head, width)
        self.beside: Any = self.make("beside", beside, width)
        self.names = names

    @property
    def leads(self) -> int:  # type: ignore[override]
        """As many leading tokens as any of them asks for."""
        return max(each.leads for each in (self.head, *self.beside))

    @property
    def tied(self) -> bool:
        """Whether the map of the first is the embedding's table."""
        return getattr(self.head, "tied", False)

    @property
    def project(self) -> Any:
        """The map of the first."""
        return self.head.project

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tensor:
        """The answer of the first."""
        if context is not None and context.notes is not None:
            context.notes |= {name: each(tokens, context) for name, each in zip(self.names, self.beside, strict=True)}
        return self.head(tokens, context)
