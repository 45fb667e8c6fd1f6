"""Blocks of tokens that carry smaller tokens, their words, behind their own values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.context import Context
from everyformer.contracts import Backbone, Norm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class WordBlock(Backbone):
    """The words of each sentence pass `inner` by themselves, are added to the sentence, and this passes `outer` (Han et al.,
    TNT, 2021, equations 2 to 6): x + after(W norm(vec(each(words)))).

    A token is D = d + `words` * `word_width` wide: a sentence of width d and its words. Leading tokens have none.
    """

    def __init__(
        self,
        width: int,
        *,
        words: int = 4,
        word_width: int = 4,
        inner: Spec[Backbone] = spec(Block),  # noqa: B008
        outer: Spec[Backbone] = spec(Block),  # noqa: B008
        each: Spec[Norm] | None = None,
        norm: Spec[Norm] | None = None,
        after: Spec[Norm] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        flat = words * word_width
        if flat >= width:
            raise ValueError(f"{words} words of width {word_width} leave no room in tokens of width {width}")
        self.words, self.inside = words, width - flat
        self.inner: Backbone = self.make("inner", inner, word_width)
        self.outer: Backbone = self.make("outer", outer, self.inside)
        self.each = self.make("each", each, word_width)
        self.norm = self.make("norm", norm, flat)
        self.project = nn.Linear(flat, self.inside, bias=bias)
        self.after = self.make("after", after, self.inside)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens, sentences and words changed."""
        context = context or Context()
        values, words = tokens.values.split([self.inside, tokens.width - self.inside], -1)
        lead = 0 if tokens.lengths is not None else tokens.prefix
        within = words[:, lead:].flatten(0, 1).unflatten(-1, (self.words, -1))
        within = self.inner(Tokens(within), Context(generator=context.generator)).values
        told = self._fold(within).unflatten(0, (tokens.batch, -1))
        values = torch.cat((values[:, :lead], values[:, lead:] + told), 1)
        values = self.outer(tokens.update(values), context).values
        words = torch.cat((words[:, :lead], within.flatten(1).unflatten(0, (tokens.batch, -1))), 1)
        return tokens.update(torch.cat((values, words), -1))

    def _fold(self, words: Float[Tensor, "n m c"]) -> Float[Tensor, "n d"]:
        flat = (words if self.each is None else self.each(words)).flatten(1)
        told = self.project(flat if self.norm is None else self.norm(flat))
        return told if self.after is None else self.after(told)


@part("backbones")
class Sentences(Backbone):
    """The sentences alone: each token's first `inside` values, its words left behind."""

    def __init__(self, width: int, *, inside: int | None = None) -> None:
        super().__init__()
        self.gives = width if inside is None else inside

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens, as wide as sentences."""
        return tokens.update(tokens.values[..., : self.gives])
