"""Half as many steps of a series, by a convolution and pooling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from everyformer.context import Context
from everyformer.contracts import Norm, Transition, normalise
from everyformer.errors import BadInput
from everyformer.norms import BatchNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Distilling(Transition):
    """maxpool(elu(norm(conv(x)))) along the tokens, which leaves half of them (Zhou et al., Informer, 2021, equation 5).

    The last token and the first are neighbours to the convolution, so that all sequences are of one length.
    """

    def __init__(self, width: int, to: int, *, norm: Spec[Norm] = spec(BatchNorm)) -> None:  # noqa: B008
        super().__init__()
        self.conv = nn.Conv1d(width, to, 3, padding=1, padding_mode="circular")
        self.norm: Norm = self.make("norm", norm, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """ceil(N / 2) tokens, at the places of every second one."""
        if tokens.mask is not None or tokens.lengths is not None:
            raise BadInput(
                "Distilling joins the two ends of a series, and these are padded or packed; give equal lengths"
            )
        found = tokens.update(self.conv(tokens.values.mT).mT)
        pooled = F.max_pool1d(F.elu(normalise(self.norm, found)).mT, 3, 2, 1).mT
        return Tokens(pooled, positions=tokens.places[:, ::2])
