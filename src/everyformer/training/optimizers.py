"""Optimisers by name, and which weights decay."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from everyformer.errors import UnknownName
from everyformer.recipe import Training
from everyformer.registry import Part
from everyformer.tables import Table
from everyformer.training.muon import Muon
from everyformer.training.shards import like


def adamw(module: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov and Hutter, 2019); matrices decay, vectors and tables do not."""
    decayed, plain = split(module)
    return [_adamw(decayed, plain, training)]


def muon(module: nn.Module, training: Training) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embedding and the head, AdamW for all else."""
    decayed, plain = split(module)
    outer = {id(p) for m in module.modules() if getattr(m, "room", "") == "heads" for p in m.parameters()}
    hidden = [p for p in decayed if p.ndim == 2 and id(p) not in outer]
    if not hidden:
        return adamw(module, training)
    taken = {id(p) for p in hidden}
    rest = [p for p in decayed if id(p) not in taken]
    return [Muon(hidden, lr=training.lr, weight_decay=training.weight_decay), _adamw(rest, plain, training)]


Make = Callable[[nn.Module, Training], list[torch.optim.Optimizer]]
OPTIMIZERS: dict[str, Make] = {"adamw": adamw, "muon": muon}


def find_optimizer(name: str) -> Make:
    """The optimiser of that name: a function of a module and the recipe's `training`."""
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters: those that decay (matrices and kernels), and those that do not (vectors, tables, positions)."""
    tables = {
        id(p)
        for m in module.modules()
        if isinstance(m, (nn.Embedding, Table)) or (isinstance(m, Part) and m.room == "positions")
        for p in m.parameters()
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            matrix = sum(n > 1 for n in parameter.shape) >= 2 and id(parameter) not in tables
            (decayed if matrix else plain).append(parameter)
    return decayed, plain


def common_width(module: nn.Module) -> int:
    """The smaller side of the matrix that half of the weights in matrices are below."""
    sides = sorted((min(p.shape[0], p[0].numel()), p.numel()) for p in split(module)[0])
    below, half = 0, sum(count for _, count in sides) / 2
    for side, count in sides:
        below += count
        if below >= half:
            return side
    return 0


def state_of(module: nn.Module, used: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What the optimisers remember, by parameter: 'blocks.0.mixer.qkv.weight/exp_avg'."""
    held = {}
    for name, parameter in module.named_parameters():
        for optimizer in used:
            for field, value in optimizer.state.get(parameter, {}).items():
                held[f"{name}/{field}"] = value
    return held


def restore(module: nn.Module, used: list[torch.optim.Optimizer], held: dict[str, Tensor]) -> None:
    """Give the optimisers back what `state_of` took."""
    named = dict(module.named_parameters())
    owner = {id(p): o for o in used for group in o.param_groups for p in group["params"]}
    for key, value in held.items():
        name, _, field = key.rpartition("/")
        parameter = named[name]
        # AdamW counts its steps on the CPU unless it is fused.
        device = parameter.device if value.ndim or owner[id(parameter)].defaults.get("fused") else "cpu"
        value = like(value, parameter) if value.shape == parameter.shape else value
        owner[id(parameter)].state[parameter][field] = value.to(device)


def _adamw(decayed: list[nn.Parameter], plain: list[nn.Parameter], training: Training) -> torch.optim.AdamW:
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    betas = (training.betas[0], training.betas[1])
    fused = all(p.device.type in ("cpu", "cuda") for p in [*decayed, *plain])
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=training.lr, betas=betas, fused=fused)
