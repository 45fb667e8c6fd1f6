"""Which places of a model an answer hangs on: what changes when they are exchanged or taken out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import BadInput
from everyformer.interpret.taps import intervene, points, record

Figure = Callable[[Tensor], Tensor]
"""The model's answer into the one number that is asked about."""


@torch.no_grad()
def patch(
    model: nn.Module, into: Mapping[str, Tensor], source: Mapping[str, Tensor], pattern: str, figure: Figure
) -> dict[str, float]:
    """For each point: `figure` of the answer to `into` when that point has the value it has for `source`.

    Activation patching (Vig et al., 2020; Meng et al., 2022). Both batches have the same shapes.
    """
    with record(model, pattern) as seen:
        model(**source)
    found = {}
    for path in seen:
        with intervene(model, {path: seen[path]}):
            found[path] = float(figure(model(**into)))
    return found


@torch.no_grad()
def patch_tokens(
    model: nn.Module, into: Mapping[str, Tensor], source: Mapping[str, Tensor], pattern: str, figure: Figure
) -> Float[Tensor, "P N"]:
    """The same for each token alone of values (B, N, D) at each point."""
    with record(model, pattern) as seen:
        model(**source)
    found = []
    for path, value in seen.items():
        if value.dim() != 3:
            raise BadInput(f"at '{path}' a tensor of shape {tuple(value.shape)} passes, not tokens (B, N, D)")

        row = []
        for token in range(value.shape[1]):
            with intervene(model, {path: partial(_exchange, value, token)}):
                row.append(figure(model(**into)))
        found.append(torch.stack(row))
    return torch.stack(found)


@torch.no_grad()
def ablate_heads(
    model: nn.Module, batch: Mapping[str, Tensor], figure: Figure, *, instead: Mapping[str, Tensor] | None = None
) -> dict[str, Float[Tensor, " H"]]:
    """For each attention: `figure` of the answer without each of its heads (Michel et al., 2019).

    A head that is taken out answers zero, or the mean of what it answers to the batch `instead`.
    """
    taps = points(model, "**.mixed")
    means: dict[str, Tensor] = {}
    if instead is not None:
        with record(model, *taps) as seen:
            model(**instead)
        means = {path: value.mean((0, 2), keepdim=True) for path, value in seen.items()}
    found = {}
    for path in taps:
        heads: int = model.get_submodule(path.rpartition(".")[0]).heads  # type: ignore[assignment]
        figures = []
        for head in range(heads):
            with intervene(model, {path: partial(_without, means.get(path), head)}):
                figures.append(figure(model(**batch)))
        found[path.removesuffix(".mixed")] = torch.stack(figures)
    return found


def _exchange(value: Tensor, token: int, old: Tensor) -> Tensor:
    return torch.cat((old[:, :token], value[:, token : token + 1], old[:, token + 1 :]), 1)


def _without(mean: Tensor | None, head: int, mixed: Tensor) -> Tensor:
    mixed = mixed.clone()
    mixed[:, head] = 0 if mean is None else mean[:, head]
    return mixed
