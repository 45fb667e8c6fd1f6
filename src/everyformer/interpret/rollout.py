"""How much of each input token reaches each token of the last layer, by attention alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import DoesNotFit
from everyformer.interpret.taps import record


@torch.no_grad()
def rollout(model: nn.Module, **batch: Tensor) -> Float[Tensor, "B N N"]:
    """Attention rollout (Abnar and Zuidema, 2020, equation 1): the product over layers of (A + I) / 2, heads averaged."""
    with record(model, "**.mixer.weights") as seen:
        model(**batch)
    maps = [weights.mean(1) for weights in seen.values()]
    sizes = {each.shape[-2:] for each in maps}
    if len(sizes) > 1 or any(rows != columns for rows, columns in sizes):
        raise DoesNotFit(f"rollout needs the same tokens in every layer; this model has {sorted(map(tuple, sizes))}")
    passed = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    for each in maps:
        mixed = each + torch.eye(each.shape[-1], dtype=each.dtype, device=each.device)
        passed = mixed / mixed.sum(-1, keepdim=True) @ passed
    return passed.expand(len(maps[0]), -1, -1)
