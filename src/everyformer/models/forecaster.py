"""Encoder-decoders that forecast all steps of a series at once."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.errors import BadInput
from everyformer.models.model import Root, enter, run
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec


@part("models")
class Forecaster(Root):
    """The decoder is given the last `known` steps and zeros for the `horizon`, and answers in one pass (Zhou et al., 2021, 3.3)."""

    def __init__(
        self,
        *,
        width: int,
        source: Spec[Embedding],
        encoder: Spec[Backbone],
        target: Spec[Embedding],
        decoder: Spec[Backbone],
        head: Spec[Head],
        horizon: int,
        known: int = 48,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        if horizon < 1 or known < 0:
            raise ValueError(
                f"the horizon is at least 1 step and what is known at least 0; given {horizon} and {known}"
            )
        self.horizon, self.known = horizon, known
        self.source: Embedding = self.make("source", source, width)
        self.encoder: Backbone = self.make("encoder", encoder, width)
        self.target: Embedding = self.make("target", target, width)
        self.decoder: Backbone = self.make("decoder", decoder, width)
        self.head: Head = self.make("head", head, width)
        self.begin(start)

    def forward(
        self,
        inputs: Float[Tensor, "B T C"],
        *,
        marks: Float[Tensor, "B T K"] | None = None,
        coming: Float[Tensor, "B S K"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "B S C"]:
        """The forecast; `marks` are the time stamps of the steps that are given, `coming` those of the steps to come."""
        if inputs.shape[1] < self.known:
            raise BadInput(
                f"the decoder is given the last {self.known} steps of a series (B, time, variates); given a tensor of shape "
                f"{tuple(inputs.shape)}; give longer series, or build with a smaller `known`"
            )
        if coming is not None and (marks is None or coming.shape[1] != self.horizon):
            raise BadInput(
                f"stamps of {coming.shape[1]} steps to come; give those of {self.horizon}, and of the steps seen"
            )
        context = context or Context()
        memory = run(self.encoder, enter(self.source, inputs, context, self._given(marks)), context)
        first = inputs.shape[1] - self.known
        target = torch.nn.functional.pad(inputs[:, first:], (0, 0, 0, self.horizon))
        both = None if marks is None or coming is None else torch.cat((marks[:, first:], coming), 1)
        within = context.replace(memory={**context.memory, "encoder": memory}, lowered={})
        return self.head(run(self.decoder, enter(self.target, target, within, self._given(both)), within), within)

    def _given(self, marks: Tensor | None) -> dict[str, Any]:
        return {} if marks is None else {"marks": marks}

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A batch that the model takes."""
        return self.source.example(batch)
