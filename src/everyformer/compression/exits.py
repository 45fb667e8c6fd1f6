"""How many blocks of a body each sample needs, chosen by a gate that is fitted on a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.backbones import ChosenDepth
from everyformer.errors import DoesNotFit
from everyformer.registry import method

Batch = Mapping[str, Any]


@contextmanager
def leaving(body: ChosenDepth, after: int | None) -> Iterator[None]:
    """While inside, every pass ends after so many blocks."""
    before, body.leave = body.leave, after
    try:
        yield
    finally:
        body.leave = before


def gated(model: nn.Module) -> ChosenDepth:
    """The body of a model whose depth a gate chooses."""
    found = [each for each in model.modules() if isinstance(each, ChosenDepth)]
    if len(found) != 1:
        raise DoesNotFit(
            f"expected one backbones.ChosenDepth in the model; it has {len(found)}: swap the body that may be left early "
            "for one before training"
        )
    return found[0]


@torch.no_grad()
def measured(
    model: nn.Module, batches: Iterable[Batch], quality: Callable[[nn.Module, Batch], Float[Tensor, " B"]]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N E"]]:
    """What the gate sees of every sample, and how good the answer is after every exit (step B)."""
    body, seen, found = gated(model.eval()), [], []
    latest: dict[str, Tensor] = {}
    hook = body.register_forward_pre_hook(lambda module, given: latest.update(seen=module.looked(*given)))
    try:
        for batch in batches:
            each = []
            for after in range(body.least, len(body.blocks) + 1):
                with leaving(body, after):
                    each.append(quality(model, batch))
            found.append(torch.stack(each, 1))
            seen.append(latest["seen"])  # every exit sees the same
    finally:
        hook.remove()
    return torch.cat(seen), torch.cat(found)


def fit(
    body: ChosenDepth,
    seen: Float[Tensor, "N D"],
    found: Float[Tensor, "N E"],
    beta: float,
    *,
    steps: int = 500,
    lr: float = 0.05,
) -> None:
    """Teach the gate to name, by what it sees of a sample, the exit with the most quality less `beta` for each block (step C)."""
    wanted = (found - beta * torch.arange(found.shape[1], device=found.device)).argmax(1)
    mean, scale = seen.mean(0), seen.std(0).clamp(min=1e-6)
    gate = nn.Linear(seen.shape[1], found.shape[1], device=seen.device)
    for parameter in gate.parameters():
        nn.init.zeros_(parameter)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=lr, weight_decay=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            F.cross_entropy(gate((seen - mean) / scale), wanted).backward()
            optimiser.step()
    with torch.no_grad():
        body.gate.copy_(gate.weight / scale)
        body.bias.copy_(gate.bias - gate.weight @ (mean / scale))


@method(
    "eco-m2f",
    title="Efficient Transformer Encoders for Mask2Former-style models",
    authors="Yao et al.",
    year=2024,
    arxiv="2404.15244",
    idea="A small gate looks at the coarsest map of a picture and says how many blocks of the pixel decoder it needs.",
)
def eco_m2f(
    model: nn.Module,
    batches: Iterable[Batch],
    quality: Callable[[nn.Module, Batch], Float[Tensor, " B"]],
    *,
    beta: float = 0.01,
) -> nn.Module:
    """The model, its gate fitted to what `quality(model, batch)`, how good the answer to each sample is, gives after every
    exit (steps B and C, section 3). For another `beta`, what a block costs, `fit` alone is repeated.
    """
    fit(gated(model), *measured(model, batches, quality), beta)
    return model
