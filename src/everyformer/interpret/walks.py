"""A decoder as a walk through the space of its tokens: what each layer adds, and where the stream stands in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.interpret.lenses import last_body
from everyformer.interpret.taps import record
from everyformer.registry import method


@dataclass(frozen=True)
class Walk:
    """Where the stream of each token stands before the first layer and after each mixer and feedforward."""

    paths: tuple[str, ...]
    states: Float[Tensor, "L B N D"]

    def steps(self) -> Float[Tensor, "l B N D"]:
        """What each layer added: with the first state they sum to the last."""
        return self.states.diff(dim=0)

    def turns(self) -> Float[Tensor, "l B N"]:
        """The cosine between each step and the one before it."""
        steps = self.steps()
        return F.cosine_similarity(steps[1:], steps[:-1], dim=-1)

    def nearest(self, table: Float[Tensor, "V D"], count: int = 1) -> Int[Tensor, "L B N k"]:
        """The tokens whose vectors have the largest product with each state."""
        return (self.states @ table.mT).topk(count, -1).indices


@method(
    "embedding-space-walk",
    title="Analyzing Transformer Dynamics as Movement through Embedding Space",
    authors="Singh",
    year=2023,
    arxiv="2308.10874",
    idea="A decoder folds a context into one vector among those of its tokens; each layer is a step on the way there.",
)
@torch.no_grad()
def walk(model: nn.Module, **batch: Tensor) -> Walk:
    """The walk of every token of a batch."""
    path, _ = last_body(model)
    first, after = f"{path}.blocks.0.input", f"{path}.blocks.*.residual.*"
    with record(model, first, after) as seen:
        model(**batch)
    return Walk(tuple(seen), torch.stack(list(seen.values())))


@torch.no_grad()
def path_log_probability(model: nn.Module, ids: Int[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """The log-probability of the path that each sequence is: of all its tokens after the first."""
    chances = model(ids[:, :-1]).log_softmax(-1)
    return chances.gather(-1, ids[:, 1:, None])[..., 0].sum(-1)
