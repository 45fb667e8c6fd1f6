"""How far away each pixel is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.objectives.base import LABELS, Loss, Objective, answer
from everyformer.registry import part


@part("objectives")
class ScaleInvariant(Objective):
    """sqrt(mean(d^2) - share mean(d)^2) of each sample, d = log y - log t where t is above 0 (Eigen et al., 2014,
    equation 4; Kim et al., GLPN, 2022, equation 2, with the root as their code has it). Counted by samples.
    """

    def __init__(self, *, share: float = 0.5) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"the share is 0 (the distance itself) to 1 (no scale counts); given {share}")
        self.share = share

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        labels = batch[LABELS]
        said = resized(answer(model, batch).float(), labels.shape[1:])[:, 0]
        total = scale_invariant(said, labels, self.share).sum()
        return Loss(total, torch.tensor(len(labels), device=labels.device))


def scale_invariant(said: Float[Tensor, "B Y X"], truth: Float[Tensor, "B Y X"], share: float) -> Float[Tensor, " B"]:
    """The loss of each sample; 0 where no depth is known."""
    known = truth > 0
    gap = (said.clamp(min=1e-3).log() - truth.clamp(min=1e-3).log()) * known
    count = known.sum((1, 2)).clamp(min=1)
    mean, square = gap.sum((1, 2)) / count, gap.square().sum((1, 2)) / count
    return (square - share * mean.square() + 1e-8).sqrt()
