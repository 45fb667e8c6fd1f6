"""Models of any depth out of two stored layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from everyformer.backbones import LinearExpansion
from everyformer.designs import design_of
from everyformer.errors import BadInput, DoesNotFit
from everyformer.registry import method


@method(
    "tleg",
    title="Transformer as Linear Expansion of Learngene",
    authors="Xia et al.",
    year=2024,
    arxiv="2312.05614",
    idea="Store two layers; a model of any depth has a linear function of the place as the weights of each of its layers.",
)
@torch.no_grad()
def tleg(model: nn.Module, *, depth: int) -> Any:
    """An ordinary model of `depth` layers, begun from one whose body is a trained `LinearExpansion`: to be used or tuned.

    The one it is made from: `design.set("backbone.blocks", (ef.spec(LinearExpansion, block=..., depth=...),))`, trained with
    distillation. All that is not in the expansion is taken over as it is.
    """
    if depth < 1:
        raise BadInput(f"a model has at least one layer; given depth={depth}")
    before = design_of(model)
    found = [(path, each) for path, each in before.walk() if each.part is LinearExpansion]
    if len(found) != 1 or len(before.get(found[0][0].rpartition(".")[0])) != 1:
        raise DoesNotFit(
            f"expected a LinearExpansion as the one block of a body, found {len(found)}: "
            'design.set("backbone.blocks", (ef.spec(LinearExpansion, block=..., depth=...),))'
        )
    path, spec = found[0]
    place = path.rpartition(".")[0]
    source: Any = model.get_submodule(path)
    weights = {name: each for name, each in model.state_dict().items() if not name.startswith(f"{path}.")}
    for layer in range(depth):
        weights |= {f"{place}.{layer}.{name}": each for name, each in source.weights(layer, depth).items()}
    made = before.set(place, (spec.get("block"),) * depth).build()
    weight = next(model.parameters())
    made.to(device=weight.device, dtype=weight.dtype).load_state_dict(weights)
    return made.train(model.training)
