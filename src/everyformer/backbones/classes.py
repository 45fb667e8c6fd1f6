"""A class token that waits while the patches talk, and blocks in which it alone learns from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, FeedForward, Mixer
from everyformer.feedforward import MLP
from everyformer.mixers import CrossAttention
from everyformer.norms import PreNorm, TrunkNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens, pack, unpack


@part("backbones")
class Apart(Backbone):
    """The leading tokens wait while `body` works on the others (Touvron et al., CaiT, 2021, section 3)."""

    def __init__(self, width: int, *, body: Spec[Backbone]) -> None:
        super().__init__()
        self.body: Any = self.make("body", body, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens, all but the leading ones changed."""
        context = context or Context()
        if not tokens.prefix:
            return self.body(tokens, context)
        return leading_first(tokens, lambda whole: self._rest(whole, context))

    def _rest(self, tokens: Tokens, context: Context) -> Tokens:
        count, places = tokens.prefix, tokens.places
        mask, weights = tokens.mask, tokens.weights
        rest = tokens.replace(
            values=tokens.values[:, count:],
            mask=None if mask is None else mask[:, count:],
            positions=places[:, count:],
            weights=None if weights is None else weights[:, count:],
            prefix=0,
        )
        after = self.body(rest, context)
        return tokens.update(torch.cat((tokens.values[:, :count], after.values), 1))


@part("backbones")
class ClassBlock(Backbone):
    """Class attention: the leading tokens ask all tokens, then pass the feedforward; the rest stays (CaiT, section 3.1).

    `mixer` is a cross-attention with `memory="tokens"`: itself and the patches, normalised by the residual around it.
    """

    leads = 1

    def __init__(
        self,
        width: int,
        *,
        mixer: Spec[Mixer] = spec(CrossAttention, memory="tokens"),  # noqa: B008
        feedforward: Spec[FeedForward] = spec(MLP),  # noqa: B008
        residual: Spec[PreNorm] = spec(PreNorm),  # noqa: B008
    ) -> None:
        super().__init__()
        self.mixer: Any = self.make("mixer", mixer, width)
        self.feedforward: Any = self.make("feedforward", feedforward, width)
        self.residual = nn.ModuleList(self.make("residual", residual, width) for _ in range(2))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens, the leading ones changed."""
        context = context or Context()
        return leading_first(tokens, lambda whole: self._ask(whole, context))

    def _ask(self, tokens: Tokens, context: Context) -> Tokens:
        count = tokens.prefix
        around, after = self.residual
        rest = around.norm(tokens.values[:, count:])

        def ask(first: Tokens) -> Tensor:
            whole = tokens.update(torch.cat((first.values, rest), 1))
            return self.mixer(first, context.replace(memory={**context.memory, "tokens": whole}))

        first = around(Tokens(tokens.values[:, :count]), ask, context)
        first = after(first, lambda t: self.feedforward(t, context), context)
        return tokens.update(torch.cat((first.values, tokens.values[:, count:]), 1))


@part("backbones")
class PassingClassBlock(ClassBlock):
    """Class attention in which the patches, too, get what stands at their place (El-Nouby et al., XCiT, 2021, official code).

    First their norm is added to them, as the update of the leading tokens is to those; then they are doubled. `patches`:
    whether the norm of the feedforward takes them before that.
    """

    def __init__(
        self,
        width: int,
        *,
        mixer: Spec[Mixer] = spec(CrossAttention, memory="tokens"),  # noqa: B008
        feedforward: Spec[FeedForward] = spec(MLP),  # noqa: B008
        residual: tuple[Spec[PreNorm], Spec[TrunkNorm]] = (spec(PreNorm), spec(TrunkNorm)),
        patches: bool = True,
    ) -> None:
        super().__init__(width, mixer=mixer, feedforward=feedforward)
        self.residual = self.make("residual", residual, width)
        self.patches = patches

    def _ask(self, tokens: Tokens, context: Context) -> Tokens:
        count = tokens.prefix
        around, after = self.residual

        def ask(whole: Tokens) -> Tensor:
            within = context.replace(memory={**context.memory, "tokens": whole})
            return torch.cat((self.mixer(Tokens(whole.values[:, :count]), within), whole.values[:, count:]), 1)

        values = around(tokens, ask, context).values
        first = after(Tokens(values[:, :count]), lambda t: self.feedforward(t, context), context)
        rest = after.norm(values[:, count:]) if self.patches else values[:, count:]
        return tokens.update(torch.cat((first.values, 2 * rest), 1))


def leading_first(tokens: Tokens, change: Callable[[Tokens], Tokens]) -> Tokens:
    """`change` applied where each sequence has a row of its own; without leading tokens there is nothing to change."""
    if not tokens.prefix:
        return tokens
    if tokens.lengths is None:
        return change(tokens)
    return tokens.update(pack(change(unpack(tokens))).values)
