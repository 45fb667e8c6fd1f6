"""Adapters in the format of peft: `adapter_config.json` and `adapter_model.safetensors`, both ways.

A map of ours that is several of theirs (queries, keys and values in one) takes one adapter whose rank is the sum of
theirs, each in its own rows; written back, each of theirs has that rank. Modules have the names of the family's table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from everyformer.compression.adapters import LoRA, adapters, head_alone
from everyformer.designs import design_of
from everyformer.edits import swap
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interop.family import families
from everyformer.interop.forms import Form, Joined, Rows
from everyformer.interop.weights import Pair, rows_of
from everyformer.jsons import read_json
from everyformer.specs import Spec, spec

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BEFORE = "base_model.model."
_ONLY: dict[str, Any] = {"peft_type": "LORA", "bias": "none", "use_dora": False}
"""Settings of which LoRA here has one value."""


def load_adapter(model: Any, folder: str | Path) -> Any:
    """Put the adapters of a folder that peft wrote into a model of ours, in place, and give it back."""
    from safetensors.torch import load_file

    path = Path(folder).expanduser()
    if not (path / CONFIG).is_file() or not (path / WEIGHTS).is_file():
        raise BadInput(f"'{path}' has no {CONFIG} with {WEIGHTS}; give the folder that peft's save_pretrained wrote")
    if adapters(model):
        raise DoesNotFit("it has adapters already; take them in first (ef.remove)", next(iter(adapters(model))))
    config = read_json(path / CONFIG)
    for name, value in _ONLY.items():
        if config.get(name, value) != value:
            raise DoesNotFit(f"{CONFIG} has {name}={config[name]!r}; LoRA here has only {value!r}")
    given = {name.removeprefix(_BEFORE): value for name, value in load_file(path / WEIGHTS).items()}
    homeless: list[list[str]] = [sorted(given)]
    for table in _tables(model):
        maps = _found(table, (f"{linear}.weight" for linear in design_of(model).linears()))
        maps = {ours: pair for ours, pair in maps.items() if any(_half(name, "A") in given for name in pair.theirs)}
        beside = _found(table, head_alone(model))
        beside = {ours: pair for ours, pair in beside.items() if all(name in given for name in pair.theirs)}
        spoken = {_half(name, half) for pair in maps.values() for name in pair.theirs for half in "AB"}
        spoken |= {name for pair in beside.values() for name in pair.theirs}
        homeless.append([name for name in sorted(given) if name not in spoken])
        if not homeless[-1]:
            _put(model, maps, beside, given, config)
            return model
    least = min(homeless, key=len)
    more = f" and {len(least) - 5} more" if len(least) > 5 else ""
    raise BadInput(f"the model has no place for {', '.join(least[:5])}{more}; is it an adapter of this model?")


def save_adapter(model: Any, folder: str | Path, *, base: str = "") -> dict[str, Any]:
    """Write a model's adapters, and what its head has to itself, as peft reads them; gives the config.

    `base` is the folder or the id of the checkpoint that they belong to.
    """
    from safetensors.torch import save_file

    found, alone = adapters(model), head_alone(model)
    if not found:
        raise DoesNotFit("no adapter in the model; put some in: ef.swap(model, PATH, ef.spec(ef.compression.LoRA))")
    tables = [(_found(table, (f"{path}.weight" for path in found)), _found(table, alone)) for table in _tables(model)]
    fitting = [(maps, beside) for maps, beside in tables if len(maps) == len(found) and len(beside) == len(alone)]
    if not fitting:
        raise DoesNotFit("no class of transformers has all maps that have an adapter, and the head", next(iter(found)))
    maps, beside = fitting[0]
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for path, adapter in found.items():
        pair = maps[f"{path}.weight"]
        parts = _upright(pair.form).write(adapter.up.weight.detach(), rows_of(model, pair, adapter.base))
        for name, up in zip(pair.theirs, parts, strict=True):
            assert up is not None
            tensors[_half(name, "A")], tensors[_half(name, "B")] = adapter.down.weight.detach(), up
            ranks[_module(name)], alphas[_module(name)] = adapter.rank, adapter.alpha
    for ours, pair in beside.items():
        value = alone[ours].detach()
        tensors |= pair.write(value, rows_of(model, pair, value))
    first = next(iter(ranks))
    config = {
        **_ONLY, "base_model_name_or_path": base, "task_type": None, "inference_mode": True, "target_modules": list(ranks),
        "r": ranks[first], "lora_alpha": alphas[first], "lora_dropout": _dropout(next(iter(found.values()))),
        "rank_pattern": {re.escape(name): rank for name, rank in ranks.items() if rank != ranks[first]},
        "alpha_pattern": {re.escape(name): alpha for name, alpha in alphas.items() if alpha != alphas[first]},
        "fan_in_fan_out": any(pair.form == Joined(transposed=True) for pair in maps.values()),
        "modules_to_save": list(dict.fromkeys(_module(name) for pair in beside.values() for name in pair.theirs)) or None,
    }  # fmt: skip
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    (to / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    whole = {f"{_BEFORE}{name}": value.cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(whole, to / WEIGHTS, {"format": "pt"})
    return config


def _tables(model: Any) -> Iterator[list[Pair]]:
    """The table of each class that the model may be."""
    for family in families():
        if family.system == getattr(model, "system", ""):
            for top in family.tops:
                yield family.pairs(design_of(model), top)


def _found(table: list[Pair], names: Iterable[str]) -> dict[str, Pair]:
    """The pair of each of our tensors, where the table has one that an adapter can be written by."""
    made = {name: next((found for pair in table if (found := pair.at(name))), None) for name in names}
    return {name: pair for name, pair in made.items() if pair is not None and not isinstance(pair.form, Rows)}


def _put(
    model: Any,
    maps: Mapping[str, Pair],
    beside: Mapping[str, Pair],
    given: Mapping[str, Tensor],
    config: dict[str, Any],
) -> None:
    made: dict[Spec[LoRA], list[str]] = {}
    halves: dict[str, tuple[Tensor, Tensor]] = {}
    for ours, pair in maps.items():
        path = _module(ours)
        rows = rows_of(model, pair, model.get_parameter(ours))
        down, up, scale = _together(pair, rows, given, config)
        rank, dropout = len(down), config.get("lora_dropout") or 0.0
        made.setdefault(spec(LoRA, rank=rank, alpha=scale * rank, dropout=float(dropout)), []).append(path)
        halves[path] = down, up
    for form, paths in made.items():
        swap(model, paths, form)
    with torch.no_grad():
        for path, adapter in adapters(model).items():
            adapter.down.weight.copy_(halves[path][0])
            adapter.up.weight.copy_(halves[path][1])
        for ours, pair in beside.items():
            model.get_parameter(ours).copy_(pair.read(given))


def _together(
    pair: Pair, rows: list[int], given: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Tensor, Tensor, float]:
    """Both halves of one adapter of ours from those of theirs that there are, and its scale, that of the first."""
    there = [i for i, name in enumerate(pair.theirs) if _half(name, "A") in given]
    downs = [given[_half(pair.theirs[i], "A")] for i in there]
    scales = [_scale(_module(pair.theirs[i]), len(down), config) for i, down in zip(there, downs, strict=True)]
    ups = []
    for i, scale in zip(there, scales, strict=True):
        up = given[_half(pair.theirs[i], "B")] * (scale / scales[0])
        blocks = [up if j == i else up.new_zeros(rows[j], up.shape[1]) for j in range(len(pair.theirs))]
        ups.append(_upright(pair.form).read(blocks))
    return torch.cat(downs), torch.cat(ups, 1), scales[0]


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """What theirs multiplies an adapter with (Kalajdzievski, rsLoRA, 2023, where it divides by the root)."""
    patterns = config.get("alpha_pattern") or {}
    own = [alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", module)]
    alpha = own[0] if own else config.get("lora_alpha", 8)
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _upright(form: Form) -> Form:
    """How the rows of an adapter stand, which has them in front also where the weight is transposed."""
    return Joined() if isinstance(form, Joined) else form


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _half(tensor: str, half: str) -> str:
    return f"{_module(tensor)}.lora_{half}.weight"


def _dropout(adapter: LoRA) -> float:
    held: Any = adapter.spec
    return float(held.get("dropout")) if held is not None else 0.0
