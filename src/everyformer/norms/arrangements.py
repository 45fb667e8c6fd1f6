"""Where the norm stands around a layer, and how the update joins the trunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Layer, Norm, Residual, normalise
from everyformer.dropout import Dropout
from everyformer.norms.branches import Branch
from everyformer.norms.normalisers import LayerNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class _Arrangement(Residual):
    """A norm, dropout, and the branches that an update passes (LayerScale, StochasticDepth) before it is added."""

    def __init__(
        self,
        width: int,
        *,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        dropout: float = 0.0,
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__()
        self.norm: nn.Module = self.make("norm", norm, width)
        self.dropout = Dropout(dropout) if dropout else None
        self.branches = self.make("branches", branches, width)

    def branch(self, update: Tensor, tokens: Tokens, context: Context) -> Tensor:
        """The update after dropout and the branches."""
        if self.dropout is not None:
            update = self.dropout(update)
        for each in self.branches:
            update = each(update, tokens, context)
        return update


@part("norms")
class PreNorm(_Arrangement):
    """x + f(norm(x)) (Xiong et al., 2020)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context, onto: Tensor | None = None) -> Tokens:
        """The tokens with the update added, or `onto` other values, as several layers of the same tokens are."""
        update = layer(tokens.update(normalise(self.norm, tokens)))
        return tokens.update((tokens.values if onto is None else onto) + self.branch(update, tokens, context))


@part("norms")
class ScaledPreNorm(_Arrangement):
    """a x + f(norm(x)), a learned factor per channel on the trunk (Shleifer et al., NormFormer, 2021, section 2)."""

    def __init__(
        self,
        width: int,
        *,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        dropout: float = 0.0,
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__(width, norm=norm, dropout=dropout, branches=branches)
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The scaled tokens with the update added."""
        update = layer(tokens.update(normalise(self.norm, tokens)))
        return tokens.update(tokens.values * self.factor + self.branch(update, tokens, context))


@part("norms")
class PostNorm(_Arrangement):
    """norm(x + f(x)) (Vaswani et al., 2017, section 3.1)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens with the update added, normalised."""
        return tokens.update(
            normalise(self.norm, tokens.update(tokens.values + self.branch(layer(tokens), tokens, context)))
        )


@part("norms")
class UpdateNorm(_Arrangement):
    """x + norm(f(x)): the update is normalised, the trunk is not (Liu et al., Swin V2, 2022, section 3.2)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens with the normalised update added."""
        update = normalise(self.norm, tokens.update(layer(tokens)))
        return tokens.update(tokens.values + self.branch(update, tokens, context))


@part("norms")
class SandwichNorm(_Arrangement):
    """x + norm'(f(norm(x))) (Ding et al., CogView, 2021, section 2.4; Gemma 2)."""

    def __init__(
        self,
        width: int,
        *,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
        dropout: float = 0.0,
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__(width, norm=norm, dropout=dropout, branches=branches)
        self.norm = nn.ModuleList((self.norm, self.make("norm", norm, width)))

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens with the normalised update added."""
        update = layer(tokens.update(normalise(self.norm[0], tokens)))  # type: ignore[index]
        update = normalise(self.norm[1], tokens.update(update))  # type: ignore[index]
        return tokens.update(tokens.values + self.branch(update, tokens, context))


@part("norms")
class TrunkNorm(_Arrangement):
    """y + f(y) with y = norm(x): the trunk itself is normalised (Hassani et al., CCT, 2021, official code)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The normalised tokens with the update added."""
        tokens = tokens.update(normalise(self.norm, tokens))
        return tokens.update(tokens.values + self.branch(layer(tokens), tokens, context))


@part("norms")
class Replacement(_Arrangement):
    """f(norm(x)): what the layer gives takes the place of the tokens (Yu et al., CRATE, 2023, equation 17)."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """What the layer gives."""
        return tokens.update(self.branch(layer(tokens.update(normalise(self.norm, tokens))), tokens, context))


@part("norms")
class NormedReplacement(_Arrangement):
    """norm(f(x)): what the layer gives, normalised, takes the place of the tokens (Yao et al., Focus the Discrepancy, 2023,
    official code, where x + a - (x + b) is normalised).
    """

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """What the layer gives, normalised."""
        return tokens.update(normalise(self.norm, tokens.update(self.branch(layer(tokens), tokens, context))))
