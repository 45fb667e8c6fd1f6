"""Trained attention rewritten, so that what it caches is smaller."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.edits import resize, swap
from everyformer.errors import BadInput, DoesNotFit
from everyformer.mixers import Attention, CrossAttention, SlimAttention
from everyformer.registry import method
from everyformer.specs import Spec, signature, spec


@method(
    "slim-attention",
    title="Slim attention: cut your context memory in half without loss of accuracy",
    authors="Graef and Wasielewski",
    year=2025,
    arxiv="2503.05840",
    idea="Values are a fixed linear function of keys where the map to the keys can be inverted: cache the keys alone.",
)
@torch.no_grad()
def slim_attention(model: nn.Module, *, worst: float | None = None) -> Any:
    """A copy whose attention caches keys alone, with the same answers up to rounding.

    W_K^-1 W_V is solved for in float64. A map to the keys of a condition above `worst`, by default where it would cost more
    than a thousandth in the model's own precision, is refused by its path.
    """
    made = copy.deepcopy(model)
    found = {path: each for path, each in made.named_modules() if type(each) is Attention}
    if not found:
        raise DoesNotFit("no plain attention here to make slim", "mixer")
    for path, old in found.items():
        values = _values_of_keys(old, path, worst)
        swap(made, path, _slim)
        new = made.get_submodule(path)
        query, key, _ = old.qkv.weight.split(old.sizes)
        new.query_key.weight.copy_(torch.cat((query, key)))
        new.value.weight.copy_(values)
        if old.qkv.bias is not None:
            query, key, value = old.qkv.bias.split(old.sizes)
            new.query_key.bias.copy_(torch.cat((query, key)))
            new.value.bias.copy_(value.double() - values @ key.double())
        rest = {name: each for name, each in old.state_dict().items() if not name.startswith("qkv.")}
        new.load_state_dict(rest, strict=False)
    return made


def _slim(old: Spec[Any]) -> Spec[Any]:
    known = signature(SlimAttention)
    return spec(SlimAttention, **{name: value for name, value in old.options.items() if name in known})


def _values_of_keys(old: Attention, path: str, worst: float | None) -> Tensor:
    """(D, D), the weight of values as a linear function of keys: W_V W_K^-1, as weights of linear maps stand."""
    others = old._scored()
    if others:
        raise DoesNotFit(
            f"{type(others[0]).__name__} may take values that are no keys' or weights that are not one", path
        )
    if old.key_heads != old.heads or old.sizes[0] != old.qkv.in_features:
        raise DoesNotFit(
            f"{old.key_heads} key heads of {old.head_width} make no square map of width {old.qkv.in_features}; slim attention "
            "is for multi-head attention, and shared keys are small already",
            path,
        )
    _, key, value = old.qkv.weight.double().split(old.sizes)
    worst = 1e-3 / torch.finfo(old.qkv.weight.dtype).eps if worst is None else worst
    condition = torch.linalg.cond(key).item()
    if not condition <= worst:
        raise DoesNotFit(
            f"the map to the keys has a condition of {condition:.3g}, above {worst:.3g}; keep its values", path
        )
    return torch.linalg.solve(key, value, left=False)


@method(
    "gqa",
    title="GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
    authors="Ainslie et al.",
    year=2023,
    arxiv="2305.13245",
    idea="Query heads in groups share the mean of their key and value heads; a little more training mends the rest.",
)
@torch.no_grad()
def shared_keys(model: nn.Module, *, key_heads: int = 1) -> Any:
    """A copy with `key_heads` key and value heads in each attention, each the mean of those of its group (section 2.1).

    One is multi-query attention (Shazeer, 2019). To be trained on, for a twentieth of the steps in the paper.
    """
    made = copy.deepcopy(model)
    found = {path: each for path, each in made.named_modules() if type(each) in (Attention, CrossAttention)}
    if not found:
        raise DoesNotFit("no plain attention here to share keys in", "mixer")
    for path, old in found.items():
        if key_heads < 1 or old.key_heads % key_heads:
            raise BadInput(f"key_heads is {key_heads}; give a number that divides the {old.key_heads} of '{path}'")
        resize(made, f"{path}.key_heads", key_heads)
        _share(old, made.get_submodule(path))
    return made


def _share(old: Any, new: Any) -> None:
    joined, among = ("qkv", 1) if isinstance(old, Attention) else ("key_value", 0)
    for name, given in getattr(old, joined).named_parameters():
        size = old.key_heads * old.head_width
        pieces = given.split([given.shape[0] - 2 * size] * among + [size, size])
        means = [_mean(each, old.key_heads // new.key_heads, old.head_width) for each in pieces[among:]]
        getattr(new, joined).get_parameter(name).copy_(torch.cat((*pieces[:among], *means)))


def _mean(rows: Tensor, group: int, head_width: int) -> Tensor:
    return rows.unflatten(0, (-1, group, head_width)).mean(1).flatten(0, 1)
