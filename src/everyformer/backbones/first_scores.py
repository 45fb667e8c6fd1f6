"""Scores that are formed once, for all layers."""

from __future__ import annotations

from torch import nn

from everyformer.backbones.blocks import Block
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone, Norm, normalise
from everyformer.mixers import PartialAttention
from everyformer.norms import LayerNorm
from everyformer.registry import part
from everyformer.scores import Added
from everyformer.scores.steps import handed
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens

_ADDING = spec(Block, mixer=spec(PartialAttention, steps=(spec(Added),)), feedforward=None)


@part("backbones")
class FirstScores(Backbone):
    """Before `body` q k^T / sqrt(K) of each of `heads`, handed on under a `name` for layers to add to their own scores: what
    each of them learns is a correction (Zheng et al., PartialFormer, 2024, residual-like attention).
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        head_width: int | None = None,
        name: str = "first",
        norm: Spec[Norm] | None = spec(LayerNorm),  # noqa: B008
        body: Spec[Backbone] = spec(Encoder, blocks=(_ADDING,)),  # noqa: B008
    ) -> None:
        super().__init__()
        self.heads, self.name = heads, name
        self.head_width = head_width or width // heads
        self.norm = self.make("norm", norm, width)
        self.query_key = nn.Linear(width, 2 * heads * self.head_width)
        self.body: Backbone = self.make("body", body, width)
        self.gives, self.widths = self.body.gives, self.body.widths

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the body."""
        context = context or Context()
        values = self.query_key(tokens.values if self.norm is None else normalise(self.norm, tokens))
        pieces = [values] if tokens.lengths is None else context.groups(tokens).apart(values)
        for piece in pieces:
            query, key = (each.transpose(1, 2) for each in piece.unflatten(-1, (2, self.heads, -1)).unbind(2))
            if context.cache is not None:
                key = context.cache.extend(self, key=key)["key"]
            scores = query @ key.mT * self.head_width**-0.5
            context.lowered[handed(self.name, scores)] = scores
        return self.body(tokens, context)
