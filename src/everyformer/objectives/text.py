"""Text: cross entropy over tokens."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes
from everyformer.objectives.cross_entropy import cross_entropy
from everyformer.registry import part


def token_loss(logits: Float[Tensor, "B N V"], labels: Int[Tensor, "B N"], smoothing: float = 0.0) -> Loss:
    """Cross entropy summed over the tokens whose label is not -100."""
    real = labels != IGNORED
    logits, labels = logits.flatten(0, -2), labels.flatten()
    check_classes(labels, logits.shape[-1])
    return Loss(cross_entropy(logits, labels, smoothing), real.sum())


@part("objectives")
class NextToken(Objective):
    """Causal language modelling: `labels[n]` is the token after `inputs[n]` (Bengio et al., 2003)."""

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The negative log likelihood summed over the tokens, in nats."""
        return token_loss(answer(model, batch), batch[LABELS])


@part("objectives")
class MaskedToken(Objective):
    """Masked language modelling: only the tokens that were hidden have a label (Devlin et al., 2019, section 3.1)."""

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The negative log likelihood summed over the hidden tokens, in nats."""
        labels = batch[LABELS]
        hidden = labels != IGNORED
        return token_loss(answer(model, batch)[hidden][None], labels[hidden][None])


@part("objectives")
class SequenceToSequence(Objective):
    """The next token of a target given a source, with label smoothing (Vaswani et al., 2017, section 5.4).

    `smoothing` is spread evenly over the whole vocabulary, as in torch and fairseq.
    """

    def __init__(self, *, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The smoothed cross entropy summed over the target tokens."""
        return token_loss(answer(model, batch), batch[LABELS], self.smoothing)
