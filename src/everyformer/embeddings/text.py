"""Token ids into Tokens."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from everyformer.context import Context, running_positions
from everyformer.contracts import Backbone, Norm, Position
from everyformer.embeddings.checks import check_ids, check_ragged
from everyformer.embeddings.finish import Finish
from everyformer.embeddings.tables import Table
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, within


@part("embeddings")
class Text(Finish):
    """A learned vector for each id of a vocabulary, with positions and, where asked for, segments (BERT).

    `scaled` multiplies by sqrt(D) (Vaswani et al., 2017, section 3.4), or by the number that is given. `table_width` makes all of this narrower and maps
    it to the width at the end (Lan et al., ALBERT, 2020, section 3.1), after a `body` where one is given (Reid et al.,
    Subformer, 2021, section 3.2). `table` stands in for a matrix of one trained vector an id.
    """

    def __init__(
        self,
        width: int,
        *,
        vocabulary: int,
        positions: Spec[Position] | None = None,
        segments: int = 0,
        scaled: bool | float = False,
        table: Spec[Table] | None = None,
        table_width: int | None = None,
        body: Spec[Backbone] | None = None,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        inner = table_width or width
        super().__init__(inner, positions=positions, norm=norm, dropout=dropout)
        self.vocabulary = vocabulary
        self.table = nn.Embedding(vocabulary, inner) if table is None else self.make("table", table, inner, vocabulary)
        self.segments = nn.Embedding(segments, inner) if segments else None
        self.scale = (math.sqrt(inner) if scaled else 1.0) if isinstance(scaled, bool) else scaled
        self.body = self.make("body", body, inner)
        self.project = nn.Linear(inner, width) if table_width else None

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B N"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B N"] | None = None,
        lengths: Int[Tensor, " S"] | None = None,
        segments: Int[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of ids (B, N), or of packed ids (1, T) with the `lengths` of the sequences."""
        self.check(inputs, mask, lengths, segments)
        context = context or Context()
        values = self.table(inputs)
        if self.scale != 1.0:
            values = values * self.scale
        if self.segments is not None:
            values = values + self.segments(torch.zeros_like(inputs) if segments is None else segments)
        if lengths is not None:
            places = within(lengths, inputs.shape[1])[None, :, None]
        else:
            places = running_positions(mask, inputs.shape[1], inputs.device, context)
        tokens = self.finish(Tokens(values, mask=mask, positions=places, lengths=lengths))
        if self.body is not None:
            tokens = self.body(tokens, context.replace(lowered={}))
        return tokens if self.project is None else tokens.update(self.project(tokens.values))

    def check(self, inputs: Tensor, mask: Tensor | None, lengths: Tensor | None, segments: Tensor | None) -> None:
        """Refuse ids and segments outside their tables, and a mask or lengths that do not belong to them."""
        remedy = "use the tokenizer that the model was trained with, or build with a larger vocabulary"
        check_ids(inputs, self.vocabulary, "token id", "the vocabulary", remedy)
        check_ragged(inputs, mask, lengths)
        if segments is not None and self.segments is None:
            raise BadInput("given segments, and the embedding has none; build with segments=2")
        if segments is not None and self.segments is not None:
            many = self.segments.num_embeddings
            check_ids(segments, many, "segment", "the table of segments", f"build with segments={many + 1} or more")

    def example(self, batch: int = 1, length: int = 16) -> dict[str, Tensor]:
        """Ids of zeros."""
        return {"inputs": torch.zeros(batch, length, dtype=torch.long)}


@part("embeddings")
class TiedText(Text):
    """Text of a target whose table is that of the source (Lewis et al., BART, 2020, official code); the model ties them."""

    tied = True


@part("embeddings")
class MarkedText(Text):
    """Text of which some tokens are marked: those of a question, say, which are to see all and be seen by all.

    The first `leading` tokens of each sequence are marked in any case.
    """

    def __init__(
        self,
        width: int,
        *,
        vocabulary: int,
        leading: int = 1,
        positions: Spec[Position] | None = None,
        segments: int = 0,
        scaled: bool = False,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, vocabulary=vocabulary, positions=positions, segments=segments, scaled=scaled, norm=norm, dropout=dropout
        )  # fmt: skip
        self.leading = leading

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B N"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B N"] | None = None,
        lengths: Int[Tensor, " S"] | None = None,
        segments: Int[Tensor, "B N"] | None = None,
        marked: Bool[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of ids; `marked` is true for those that are marked."""
        tokens = super().forward(inputs, context, mask=mask, lengths=lengths, segments=segments)
        if marked is not None and marked.shape != inputs.shape:
            raise BadInput(f"marked of shape {tuple(marked.shape)} beside ids of shape {tuple(inputs.shape)}")
        first = (tokens.places[..., 0] < self.leading).expand(inputs.shape)
        return tokens.replace(marked=first if marked is None else first | marked)


@part("embeddings")
class SpelledText(Text):
    """Text of which every word is spelled out behind a mark, the last id of the vocabulary; the marks are marked tokens."""

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B N"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B N"] | None = None,
        lengths: Int[Tensor, " S"] | None = None,
    ) -> Tokens:
        """Tokens of ids (B, N), or of packed ids (1, T) with the `lengths` of the sequences."""
        tokens = super().forward(inputs, context, mask=mask, lengths=lengths)
        return tokens.replace(marked=inputs == self.vocabulary - 1)


@part("embeddings")
class DomainText(Text):
    """Text, read at once, whose first token says which of several domains it is of: the last `domains` ids of the vocabulary
    are theirs (Hallee et al., 2024, their code).

    Parts after it find the domain as a one-hot condition (B, N, domains) of the context, even over all where none is said.
    """

    def __init__(
        self,
        width: int,
        *,
        vocabulary: int,
        domains: int,
        positions: Spec[Position] | None = None,
        segments: int = 0,
        scaled: bool = False,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, vocabulary=vocabulary, positions=positions, segments=segments, scaled=scaled, norm=norm, dropout=dropout
        )  # fmt: skip
        if not 1 <= domains < vocabulary:
            raise ValueError(f"domains are at least 1, and fewer than the {vocabulary} ids; given {domains}")
        self.domains = domains

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B N"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B N"] | None = None,
        lengths: Int[Tensor, " S"] | None = None,
        segments: Int[Tensor, "B N"] | None = None,
    ) -> Tokens:
        """Tokens of ids (B, N), or of packed ids (1, T) with the `lengths` of the sequences; the condition is set."""
        context = context or Context()
        tokens = super().forward(inputs, context, mask=mask, lengths=lengths, segments=segments)
        starts = (tokens.places[..., 0] == 0).expand(inputs.shape)
        first = (starts * torch.arange(inputs.shape[1], device=inputs.device)).cummax(1).values
        ids = torch.arange(self.vocabulary - self.domains, self.vocabulary, device=inputs.device)
        said = inputs.gather(1, first)[..., None] == ids
        even = torch.full_like(tokens.values[..., :1], 1 / self.domains)
        context.condition = torch.where(said.any(-1, keepdim=True), said.to(even.dtype), even)
        return tokens
