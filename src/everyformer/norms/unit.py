"""Residuals that keep the variance of the trunk at one, however many there are (DeepScaleLM)."""

from __future__ import annotations

from everyformer.context import Context
from everyformer.contracts import Layer, Norm, normalise
from everyformer.norms.arrangements import _Arrangement
from everyformer.norms.branches import Branch
from everyformer.norms.normalisers import LayerNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class _Unit(_Arrangement):
    """lambda^2 x + beta^2 f with lambda^2 + beta^2 = 1; `share` is beta^2 (Kedia et al., DeepScaleLM, 2024, section 4)."""

    def __init__(
        self,
        width: int,
        *,
        share: float = 0.1,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        dropout: float = 0.0,
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__(width, norm=norm, dropout=dropout, branches=branches)
        if not 0 <= share <= 1:
            raise ValueError(f"the share of an update is 0 to 1; given {share}")
        self.share = share
        self.old, self.new = (1 - share) ** 0.5, share**0.5


@part("norms")
class UnitPreNorm(_Unit):
    """lambda x + beta f(norm(x)), lambda^2 + beta^2 = 1 with beta^2 the `share` (Kedia et al., DeepScaleLM, 2024)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens and the update, by their shares."""
        update = self.branch(layer(tokens.update(normalise(self.norm, tokens))), tokens, context)
        return tokens.update(self.old * tokens.values + self.new * update)


@part("norms")
class UnitPostNorm(_Unit):
    """norm(lambda x + beta f(x)), lambda^2 + beta^2 = 1 with beta^2 the `share` (Kedia et al., DeepScaleLM, 2024)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens and the update, by their shares, normalised."""
        update = self.branch(layer(tokens), tokens, context)
        return tokens.update(normalise(self.norm, tokens.update(self.old * tokens.values + self.new * update)))
