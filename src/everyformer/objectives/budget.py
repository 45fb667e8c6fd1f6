"""A budget for parts that choose how much they do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import DoesNotFit
from everyformer.feedforward import Adaptive
from everyformer.objectives.base import Loss, Objective
from everyformer.objectives.classes import Classification
from everyformer.registry import part
from everyformer.specs import Spec, spec


@part("objectives")
class Budgeted(Objective):
    """`objective`, and what draws the work of all `Adaptive` parts together to a share `budget` of all they could do (Wójcik
    et al., ACM, 2025, section 3.3): weight |work - budget| + entropy L_e + diversity L_d.

    L_e is least where the tokens of a sample take each number of learners as often, L_d where samples differ in their work.
    """

    def __init__(
        self,
        *,
        objective: Spec[Objective] = spec(Classification),  # noqa: B008
        budget: float = 0.5,
        weight: float = 0.1,
        entropy: float = 0.05,
        diversity: float = 0.05,
    ) -> None:
        super().__init__()
        if not 0 <= budget <= 1:
            raise ValueError(f"a budget is a share, 0 to 1; given {budget}")
        self.objective: Objective = self.make("objective", objective)
        self.budget, self.weight, self.entropy, self.diversity = budget, weight, entropy, diversity

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss of the objective, with that of the budget once for each thing counted."""
        parts = [module for module in model.modules() if isinstance(module, Adaptive)]
        if not parts:
            raise DoesNotFit("the model has no feedforward.Adaptive, whose work a budget could be for", "objective")
        chosen: dict[nn.Module, Tensor] = {}
        with ExitStack() as stack:
            for each in parts:
                hook = each.chosen.register_forward_hook(lambda m, given, out, each=each: chosen.update({each: out}))
                stack.callback(hook.remove)
            loss = self.objective.forward(model, batch)
        more = self.weight * (work(chosen) - self.budget).abs()
        counts = [each.float() for each in chosen.values()]
        more = more + self.entropy * _entropy(counts) + self.diversity * _diversity(counts)
        return Loss(loss.total + loss.count * more, loss.count)


def work(chosen: Mapping[nn.Module, Float[Tensor, "B N k"]]) -> Float[Tensor, ""]:
    """The share of the work of all learners that was done, over the tokens and the parts."""
    done = [part.cost * (each @ _counts(each)).mean() for part, each in chosen.items()]
    return torch.stack(done).sum() / sum(part.cost * part.learners for part in chosen)  # type: ignore[operator, misc]


def _counts(chosen: Tensor) -> Tensor:
    return torch.arange(chosen.shape[-1], device=chosen.device, dtype=chosen.dtype)


def _entropy(chosen: list[Float[Tensor, "B N k"]]) -> Float[Tensor, ""]:
    """-H / log k of how often the tokens of a sample take each number, over samples and parts."""
    shares = [each.mean(1) for each in chosen]
    each = [(share * (share + 1e-20).log()).sum(-1).mean() / math.log(share.shape[-1]) for share in shares]
    return torch.stack(each).mean()


def _diversity(chosen: list[Float[Tensor, "B N k"]]) -> Float[Tensor, ""]:
    """-2 times the mean distance between what two samples take on average."""
    taken = torch.stack([(each @ _counts(each)).mean(1) for each in chosen]).mean(0)
    return -2 * (taken[:, None] - taken).abs().mean()
