"""What trains a model to drop tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.errors import DoesNotFit
from everyformer.objectives.base import LABELS, Loss
from everyformer.objectives.classes import check_classes, class_loss
from everyformer.objectives.distillation import Distillation
from everyformer.reduction import DynamicViT
from everyformer.reduction.base import free
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("objectives")
class TokenPruning(Distillation):
    """Classes, a teacher's classes and tokens, and how many tokens stay (Rao et al., DynamicViT, 2021, section 3.3).

    The teacher is the model before it dropped any. `share` weighs KL to its classes, `tokens` the squared distance of
    the tokens that stay to the end from its own, `ratio` the squared distance of the shares that stay from the `keep` of
    the predictors, mean over the stages. All are means over a sample.
    """

    def __init__(
        self,
        *,
        teacher: str | None = None,
        share: float = 0.5,
        tokens: float = 0.5,
        ratio: float = 2.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(teacher=teacher, temperature=1.0, share=share, smoothing=smoothing)
        self.tokens, self.ratio = tokens, ratio

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples; without decisions (in evaluation) that of the classes alone."""
        labels = batch[LABELS]
        context = Context(notes={})
        tokens, logits = _said(model, batch, context)
        check_classes(labels, logits.shape[-1])
        losses = class_loss(logits, labels, self.smoothing)
        with torch.no_grad():
            their_tokens, told = _said(self.teacher, batch, Context())
        losses = losses + self.share * self.soft(logits, told)
        if context.notes:
            losses = (
                losses + self.tokens * _apart(tokens, their_tokens) + self.ratio * _off(model, tokens, context.notes)
            )
        return Loss(losses.sum(), torch.tensor(len(labels), device=labels.device))


def _said(model: Any, batch: Mapping[str, Tensor], context: Context) -> tuple[Tokens, Tensor]:
    """The last tokens of a model, and its logits."""
    if getattr(model, "features", None) is None:
        raise DoesNotFit(f"TokenPruning trains models.Model, with tokens before a head; given {type(model).__name__}")
    tokens = model.features(context=context, **{name: value for name, value in batch.items() if name != LABELS})
    return tokens, model.head(tokens, context).float()


def _apart(tokens: Tokens, theirs: Tokens) -> Float[Tensor, " B"]:
    """The mean squared distance of the tokens that stayed from the teacher's."""
    assert tokens.weights is not None
    stayed = (tokens.weights > 0.5) & free(tokens)
    square = (tokens.values.float() - theirs.values.float()).square().mean(-1)
    return (square * stayed).sum(1) / stayed.sum(1).clamp(min=1)


def _off(model: nn.Module, tokens: Tokens, notes: Mapping[str, Tensor]) -> Float[Tensor, " B"]:
    """The mean over the stages of (share that stayed - keep)^2."""
    predictors = [each for each in model.modules() if isinstance(each, DynamicViT)]
    may = free(tokens)
    wrong = [
        ((notes[f"stay {i}"] * may).sum(1) / may.sum(1).clamp(min=1) - each.keep) ** 2
        for i, each in enumerate(predictors)
    ]
    return torch.stack(wrong).mean(0)
