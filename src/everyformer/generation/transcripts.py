"""What is said in a sound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.models import Model


@torch.no_grad()
def transcribe(model: Model, inputs: Tensor, **fields: Any) -> list[list[int]]:
    """The transcripts that the likeliest classes of the frames spell: equal ones that follow each other are one, and class 0 is
    none (Graves et al., Connectionist Temporal Classification, 2006, section 3.2, best path decoding).
    """
    states = model.features(inputs, **fields)
    assert model.head is not None
    classes = model.head(states).argmax(-1)
    if states.mask is not None:
        classes = classes.masked_fill(~states.mask, 0)
    return [[each for each in torch.unique_consecutive(row).tolist() if each] for row in classes]
