"""OPTIN (Khaki and Plataniotis, 2024): units scored by what their absence does to all that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.calibration import Calibration, batches_of
from everyformer.compression.structures import Scores, allocate, gated, one_off, prunable, sliced, within, work
from everyformer.context import Context
from everyformer.errors import DoesNotFit
from everyformer.registry import method
from everyformer.tokens import Tokens
from everyformer.units import Units

TOKENS = 768
"""How many tokens are compared with each other."""
SHARE = 10.0
"""About how many times as large the error of the features is as that of the logits."""


@method(
    "optin",
    title="The Need for Speed: Pruning Transformers with One Recipe",
    authors="Khaki and Plataniotis",
    year=2024,
    arxiv="2403.17921",
    idea="Score each head and hidden unit by what its absence does to the features of all later layers and to the answer; "
    "fill a budget of FLOPs with the best, and train nothing.",
)
@torch.no_grad()
def optin(model: nn.Module, calibration: Calibration, *, keep: float = 0.6, paths: str = "**.blocks.**") -> nn.Module:
    """A copy of the model with `keep` of its FLOPs, of a pass of the first batch, in the heads and hidden units that stay.

    Every unit takes a pass of that batch. At least one unit stays in every part.
    """
    found, batch = prunable(model, paths), batches_of(calibration, model)[0]
    total, each = work(model, found, batch)
    budget = within(keep, total, found, each)
    return sliced(model, allocate(importance(model, found, batch), each, found, budget))


def importance(model: nn.Module, found: Mapping[str, Units], batch: Mapping[str, Tensor]) -> Scores:
    """What the absence of each unit does to the levels of the body after its own, and to the logits."""
    training = model.training
    model.eval()
    try:
        return _importance(model, found, batch)
    finally:
        model.train(training)


def _importance(model: nn.Module, found: Mapping[str, Units], batch: Mapping[str, Tensor]) -> Scores:
    before, logits = _pass(model, batch)
    last = list(before)[-1]
    features, answers = ({path: torch.zeros(units.count) for path, units in found.items()} for _ in range(2))
    for path, units in found.items():
        later = _later(path, list(before)) or [last]
        for unit in range(units.count):
            with gated(model, {path: one_off(units, unit, model)}):
                after, changed = _pass(model, batch)
            features[path][unit] = sum(apart(before[level].values, after[level].values) for level in later)
            answers[path][unit] = divergence(logits, changed)
    return joined(features, answers, {path: units.name for path, units in found.items()})


def _pass(model: Any, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tokens], Tensor]:
    """What each level of the body gives, by its path, and the answer."""
    levels: dict[nn.Module, Tokens] = {}
    answer = model(**batch, context=Context(levels=levels))
    if not levels or not isinstance(answer, Tensor):
        raise DoesNotFit("OPTIN compares what the levels of a body give, and logits; this model shows no levels")
    names = {module: path for path, module in model.named_modules()}
    return {names[level]: tokens for level, tokens in levels.items()}, answer


def _later(path: str, levels: list[str]) -> list[str]:
    """The levels after the one in which a part stands."""
    own = [i for i, level in enumerate(levels) if path.startswith(f"{level}.")]
    return levels[own[0] + 1 :] if own else levels


def apart(before: Float[Tensor, "B N D"], after: Float[Tensor, "B N D"]) -> Float[Tensor, ""]:
    """|| G(F) - G(F') ||^2, G the cosines of tokens of the batch with each other (manifold distillation, Hao et al., 2022).

    Of more than 768 tokens as many, evenly spaced.
    """
    both = []
    for values in (before, after):
        tokens = F.normalize(values.float().flatten(0, 1), dim=-1)
        chosen = torch.linspace(0, len(tokens) - 1, min(len(tokens), TOKENS), device=tokens.device).long()
        both.append(tokens[chosen] @ tokens[chosen].T)
    return (both[0] - both[1]).square().sum()


def divergence(before: Tensor, after: Tensor, temperature: float = 4.0) -> Float[Tensor, ""]:
    """T^2 KL(before || after) of the classes, summed over all answers; as released, the logits are not divided by T."""
    said, told = (each.float().log_softmax(-1) for each in (after, before))
    return F.kl_div(said, told, reduction="sum", log_target=True).clamp(min=0) * temperature**2


def joined(features: Scores, answers: Scores, kinds: Mapping[str, str]) -> Scores:
    """E of the features + c E of the answer, c the power of ten that makes the second about a tenth of the first.

    Where the second is the larger, c is the mean of those of the other units of the kind.
    """
    scales: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds.values()}
    for path, kind in kinds.items():
        pairs = zip(features[path].tolist(), answers[path].tolist())
        scales[kind][path] = [_scale(*pair) for pair in pairs]
    worth = {}
    for path, kind in kinds.items():
        known = [each for of_part in scales[kind].values() for each in of_part if each]
        mean = sum(known) / len(known) if known else 1.0
        scale = torch.tensor([each or mean for each in scales[kind][path]])
        worth[path] = features[path] + scale * answers[path]
    return worth


def _scale(features: float, answers: float) -> float:
    """0 where there is none."""
    if not features > answers > 0:
        return 0.0
    return 10.0 ** int(math.log10(features) - math.log10(answers) - math.log10(SHARE))
