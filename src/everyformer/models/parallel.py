"""Encoder-decoder models whose target is filled in all at once."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.heads import ClassHead
from everyformer.heads.pools import Mean
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec


@part("models")
class ParallelSeq2Seq(Seq2Seq):
    """A Seq2Seq whose answer to each token of a target is that token, some of them hidden, and which tells from the source how
    many there are: the logits of `lengths`, 0 tokens first (Ghazvininejad et al., Mask-Predict, 2019, sections 2 and 3.3).

    `decoder` is a body in which every token sees all. A forward pass notes its 'lengths'.
    """

    def __init__(
        self,
        *,
        width: int,
        source: Spec[Embedding],
        encoder: Spec[Backbone],
        decoder: Spec[Backbone],
        head: Spec[Head],
        target: Spec[Embedding] | None = None,
        source_width: int | None = None,
        lengths: Spec[Head] = spec(ClassHead, classes=129, pool=spec(Mean)),  # noqa: B008
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__(
            width=width, source=source, encoder=encoder, decoder=decoder, head=head, target=target,
            source_width=source_width, start=start,
        )  # fmt: skip
        self.lengths: Head = self.make("lengths", lengths, source_width or width)
        self.start(self.lengths)

    def prepare(self, inputs: Tensor, context: Context | None = None, **fields: Any) -> Context:
        """The encoder's output, and the lengths noted where notes are asked for."""
        context = super().prepare(inputs, context, **fields)
        if context.notes is not None:
            context.notes["lengths"] = self.counts(context)
        return context

    def counts(self, context: Context) -> Float[Tensor, "B L"]:
        """How likely each number of target tokens is, as logits."""
        said: Tensor = self.lengths(context.memory["encoder"], context)
        return said
