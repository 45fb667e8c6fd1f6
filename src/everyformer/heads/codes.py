"""What is said of a frame, and the code of what came in there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.choices import choose
from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class Quantised(NamedTuple):
    """What a quantizer makes of frames."""

    values: Float[Tensor, "B N E"]
    chosen: Float[Tensor, "B N G V"]
    """One code of each book, as one-hot vectors."""
    likely: Float[Tensor, "B N G V"]
    """How likely each code was: in use, where none is drawn, the chosen one."""


@part("heads")
class ProductQuantizer(Part):
    """One of `codes` learned vectors of each of `books`, side by side: in use the one of the highest score, in training one
    that is drawn, with straight-through gradients (Baevski et al., wav2vec 2.0, 2020, section 2, equation 1).
    """

    def __init__(
        self, width: int, *, output: int = 256, books: int = 2, codes: int = 320, temperature: float = 2.0
    ) -> None:
        super().__init__()
        if output % books:
            raise ValueError(f"{books} books share the width; given {output}")
        self.output, self.books, self.codes, self.temperature = output, books, codes, temperature
        self.score = nn.Linear(width, books * codes)
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.table = nn.Embedding(books * codes, output // books)
        nn.init.uniform_(self.table.weight)
        self.score.own_init = self.table.own_init = True  # type: ignore[assignment]

    def forward(self, values: Float[Tensor, "B N D"]) -> Quantised:
        """The codes that stand for values."""
        scores = self.score(values).unflatten(-1, (self.books, self.codes))
        chosen = choose(scores, training=self.training, temperature=self.temperature)
        table = self.table.weight.unflatten(0, (self.books, self.codes))
        quantised = torch.einsum("bngv,gvk->bngk", chosen, table).flatten(2)
        return Quantised(quantised, chosen, scores.softmax(-1) if self.training else chosen)


@part("heads")
class CodePredictor(Head):
    """A vector of each frame, to be the nearest to that of the frame's own code (Baevski et al., wav2vec 2.0, 2020,
    section 3.2).

    Of the 'frames' (B, N, C) that the embedding notes, `channels` wide, 'codes' (B, N, E), 'chosen' and 'likely'
    (B, N, G, V) are noted.
    """

    def __init__(
        self,
        width: int,
        *,
        quantizer: Spec[ProductQuantizer] = spec(ProductQuantizer),  # noqa: B008
        channels: int = 512,
        output: int = 256,
    ) -> None:
        super().__init__()
        self.quantizer: ProductQuantizer = self.make("quantizer", quantizer, channels)
        self.project = nn.Linear(width, output)
        self.code = nn.Linear(self.quantizer.output, output)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """What is said of each frame."""
        if context is not None and context.notes is not None and "frames" in context.notes:
            found = self.quantizer(context.notes["frames"])
            context.notes |= {"codes": self.code(found.values), "chosen": found.chosen, "likely": found.likely}
        return self.project(tokens.values)
