"""Encoder-decoder models."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.models.model import Root, enter, run
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class Seq2Seq(Root):
    """A source through an encoder; a target through a decoder that attends to it (Vaswani et al., 2017).

    Without a `target` embedding the source's own is used for both, weights and all; `embeddings.TiedText` shares its table.
    `source_width` is that of the source's tokens, where it is another than that of the target's.
    """

    def __init__(
        self,
        *,
        width: int,
        source: Spec[Embedding],
        encoder: Spec[Backbone],
        decoder: Spec[Backbone],
        head: Spec[Head] | None,
        target: Spec[Embedding] | None = None,
        source_width: int | None = None,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        self.source = self.make("source", source, source_width or width)
        self.encoder = self.make("encoder", encoder, source_width or width)
        self.target = self.make("target", target, width)
        self.decoder = self.make("decoder", decoder, width)
        self.head = self.make("head", head, width)
        self.begin(start)

    @property
    def into(self) -> Any:
        """The embedding of targets."""
        return self.source if self.target is None else self.target

    def tie(self) -> None:
        """Make a tied target embedding use the table of the source, and a tied head that of the target."""
        if getattr(self.target, "tied", False):
            self.target.table.weight = self.source.table.weight
        if self.head is not None:
            self.share(self.head, self.into)

    def prepare(self, inputs: Tensor, context: Context | None = None, **fields: Any) -> Context:
        """The context that decoding begins with: the encoder's output is its memory."""
        context = context or Context()
        alone = context.replace(cache=None, lowered={})
        context.memory = {
            **context.memory,
            "encoder": run(self.encoder, enter(self.source, inputs, alone, fields), alone),
        }
        return context

    def states(self, target: Tensor, context: Context, **fields: Any) -> Tokens:
        """The tokens that the head makes the next ones of."""
        return run(self.decoder, enter(self.into, target, context, fields), context)

    def forward(
        self,
        inputs: Tensor,
        target: Tensor,
        *,
        context: Context | None = None,
        target_mask: Tensor | None = None,
        target_lengths: Tensor | None = None,
        **fields: Any,
    ) -> Any:
        """Logits (B, N, V) for the token after each of `target`, given the source `inputs`; without a head the tokens."""
        context = self.prepare(inputs, context, **fields)
        given = {"mask": target_mask, "lengths": target_lengths}
        states = self.states(target, context, **{k: v for k, v in given.items() if v is not None})
        return states if self.head is None else self.speak(states, context)

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A batch that the model takes."""
        return {**self.source.example(batch), "target": self.into.example(batch)["inputs"]}
