"""AxFormer (Nagarajan et al., 2020): what the loss on held-out data does not need is left out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from everyformer.backbones import Block
from everyformer.compression.calibration import Calibration, labelled
from everyformer.compression.structures import gated, prunable, sliced
from everyformer.designs import parts_at
from everyformer.edits import remove, resize
from everyformer.errors import BadInput
from everyformer.objectives.base import Objective
from everyformer.registry import method
from everyformer.scores import TopK
from everyformer.specs import signature, spec

Loss = Callable[[nn.Module], float]


@method(
    "axformer",
    title="AxFormer: Accuracy-driven Approximation of Transformers for Faster, Smaller and more Accurate NLP Models",
    authors="Nagarajan et al.",
    year=2020,
    arxiv="2010.03688",
    idea="Leave out whatever held-out loss does not need: whole layers, then heads, then groups of hidden units; and let "
    "attention see only its largest scores where that does no harm.",
)
def axformer(
    model: nn.Module,
    calibration: Calibration,
    objective: Objective,
    *,
    slack: float = 0.0,
    groups: int = 4,
    top: tuple[int, ...] = (),
    paths: str = "**.blocks.**",
) -> nn.Module:
    """A copy of the model without the elements whose absence leaves the loss within (1 + slack) of the least so far.

    The coarse are tried before the fine, upper layers before lower ones; hidden units go in so many `groups` of a part.
    Then each attention sees only its `top` scores, the fewest of these numbers that leave the loss so. The calibration
    should be data that the model was not trained on.
    """
    if slack < 0 or groups < 1 or any(count < 1 for count in top):
        raise BadInput(f"slack is at least 0, groups and top at least 1; given {slack}, {groups} and {top}")
    batches = labelled(calibration, model)
    search = Search(copy.deepcopy(model).eval(), lambda made: mean_loss(made, batches, objective), slack)
    search.layers(paths)
    search.units(paths, groups)
    search.scores(paths, sorted(top))
    return search.model


@torch.no_grad()
def mean_loss(model: nn.Module, batches: list[dict[str, Tensor]], objective: Objective) -> float:
    """The loss over all batches."""
    losses = [objective(model, batch) for batch in batches]
    return sum(float(each.total) for each in losses) / sum(float(each.count) for each in losses)


class Search:
    """A model on its way, the least loss that it has had, and what was left out at what loss."""

    def __init__(self, model: nn.Module, loss: Loss, slack: float) -> None:
        self.model, self.loss, self.slack = model, loss, slack
        self.least = loss(model)
        self.accepted: list[tuple[str, float, float]] = []
        """What, the loss without it, and what that was held to."""

    def accepts(self, model: nn.Module, what: str) -> bool:
        """Whether the loss without something is low enough; it then is where the search goes on from."""
        loss, bound = self.loss(model), (1 + self.slack) * self.least
        if not loss <= bound:
            return False
        self.accepted.append((what, loss, bound))
        self.least = min(loss, self.least)
        return True

    def layers(self, paths: str) -> None:
        """Try whole mixers and feedforwards."""
        for path in reversed(prunable(self.model, paths)):
            if all(isinstance(holder, Block) for holder, _, _ in parts_at(self.model, path)):
                tried = remove(copy.deepcopy(self.model), path)
                if self.accepts(tried, path):
                    self.model = tried

    def units(self, paths: str, groups: int) -> None:
        """Try single heads, then groups of hidden units; one unit of each part stays."""
        found = prunable(self.model, paths)
        gates = {path: torch.ones(units.count) for path, units in found.items()}
        for kind in ("heads", "hidden"):
            for path, units in reversed(found.items()):
                pieces = torch.arange(units.count).chunk(units.count if kind == "heads" else groups)
                for piece in pieces if units.name == kind else ():
                    tried = gates[path].clone()
                    tried[piece] = 0
                    if not tried.any():
                        continue
                    with gated(self.model, {**gates, path: tried}):
                        accepted = self.accepts(self.model, f"{path} {piece.tolist()}")
                    if accepted:
                        gates[path] = tried
        self.model = sliced(self.model, {path: gate.nonzero().flatten().tolist() for path, gate in gates.items()})

    def scores(self, paths: str, top: list[int]) -> None:
        """Try attention that sees its largest scores alone, the fewest first."""
        for path, units in reversed(prunable(self.model, paths).items()) if top else ():
            if units.name != "heads" or "normaliser" not in signature(type(self.model.get_submodule(path))):
                continue
            for count in top:
                tried = resize(copy.deepcopy(self.model), f"{path}.normaliser", spec(TopK, count=count))
                if self.accepts(tried, f"{path} top {count}"):
                    self.model = tried
                    break
