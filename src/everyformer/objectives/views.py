"""How far away each pixel is, learnt from other views of the same scene alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from everyformer.convolution import resized
from everyformer.errors import BadInput
from everyformer.objectives.base import LABELS, Loss, Objective, noted
from everyformer.registry import part
from everyformer.views import dissimilarity, roughness, synthesised

POSES, LENS = "poses", "lens"
"""The keys of a batch that only this objective sees: where the other views are taken from, and with what lens."""


@part("objectives")
class ViewSynthesis(Objective):
    """How unlike a picture is what its depth makes of other views of the scene: at each pixel that of the view that is most
    like it, the views as they are being among them, so that what stands still with the eye teaches nothing; `smooth` weighs
    the roughness of the inverse depth (Godard et al., Monodepth2, 2019, sections 3.1 to 3.3).

    Labels are pictures (B, 1 + S, C, Y, X) from 0 to 1, the first of them what the model is shown; `poses` (B, S, 3, 4) put
    the first one's points where each other eye sees them, `lens` is (B, 3, 3) in pixels. The head notes inverse depths of
    several scales, the finest first, of which each later one is to be half as smooth. Counted by samples.
    """

    def __init__(self, *, smooth: float = 1e-3, structure: float = 0.85) -> None:
        super().__init__()
        self.smooth, self.structure = smooth, structure

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples, the mean over the scales."""
        views, poses, lens = (batch[name].float() for name in (LABELS, POSES, LENS))
        if views.dim() != 5 or poses.shape[:2] != (len(views), views.shape[1] - 1) or lens.shape != (len(views), 3, 3):
            raise BadInput(
                "expected pictures (B, 1 + S, C, Y, X) as labels, poses (B, S, 3, 4) and lens (B, 3, 3); given "
                f"{tuple(views.shape)}, {tuple(poses.shape)} and {tuple(lens.shape)}"
            )
        shown = {name: value for name, value in batch.items() if name not in (POSES, LENS)}
        otherwise = "the head notes no inverse depths; use heads.DepthByScales"
        _, notes = noted(model, shown, "inverse", otherwise=otherwise)
        picture, *others = views.unbind(1)
        inverse = resized(notes["inverse"].float().transpose(0, 1), tuple(picture.shape[2:])).unbind(1)
        as_they_are = torch.stack([dissimilarity(each, picture, self.structure) for each in others])
        total = picture.new_zeros(())
        for scale, each in enumerate(inverse):
            made = torch.stack(
                [
                    dissimilarity(synthesised(view, 1 / each, pose, lens), picture, self.structure)
                    for view, pose in zip(others, poses.unbind(1), strict=True)
                ]
            )
            least = torch.cat((made, as_they_are)).amin(0).mean((1, 2))
            total = total + (least + self.smooth / 2**scale * roughness(each, picture)).sum()
        return Loss(total / len(inverse), torch.tensor(len(picture), device=picture.device))
