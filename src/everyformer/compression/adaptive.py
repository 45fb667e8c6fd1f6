"""Adaptive computation modules (Wójcik et al., 2025)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.compression.calibration import Calibration, batches_of
from everyformer.designs import design_of
from everyformer.edits import swap
from everyformer.errors import DoesNotFit, UnknownName
from everyformer.feedforward import MLP, Adaptive, Projected
from everyformer.mixers import Attention, ProjectedAttention
from everyformer.registry import method
from everyformer.specs import Spec, signature, spec
from everyformer.tokens import Tokens

Lesson = tuple[Adaptive, str, slice]
"""Learners, the path of the map or the feedforward that they learn from, and which of its outputs are theirs."""


@method(
    "acm",
    title="Adaptive Computation Modules: Granular Conditional Computation For Efficient Inference",
    authors="Wójcik et al.",
    year=2025,
    arxiv="2312.10193",
    idea="A trained layer becomes a row of small learners that add up; for each token a gate says how many of them run.",
)
def acm(
    model: nn.Module,
    calibration: Calibration,
    *,
    learners: int = 4,
    cost: float = 1.0,
    steps: int = 300,
    gate_steps: int = 200,
    tokens: int = 256,
    lr: float = 1e-3,
    gate_lr: float = 1e-2,
    better: float = 1.2,
    paths: str | Sequence[str] = "**.blocks.*.feedforward",
    seed: int = 0,
) -> nn.Module:
    """Section 3.2, phases one and two, for the MLPs at `paths`, and for queries, keys, values and outputs of the attention
    there (`"**.blocks.*.mixer"`): a copy of the model.

    Each learner begins as its group of an MLP's hidden units, or as its share of a map's singular directions, all learners
    together as dear as `cost` of the map. All prefixes then learn, for `steps` of so many `tokens`, what stood there. A gate
    learns the fewest learners after which one more would divide the error by less than `better`. Phase three is training
    under `objectives.Budgeted`.
    """
    made = copy.deepcopy(model).eval()
    kinds = {MLP: _feedforward, Attention: partial(_attention, cost=cost)}
    found = [path for path in design_of(made).places(paths) if type(made.get_submodule(path)) in kinds]
    if not found:
        known = [path for path, each in design_of(made).walk() if each.part in kinds]
        raise UnknownName("MLP or Attention", str(paths), known)
    taught = copy.deepcopy(made)
    lessons = [
        lesson for path in found for lesson in kinds[type(made.get_submodule(path))](made, path, learners, seed=seed)
    ]
    heard = _heard(taught, {path for _, path, _ in lessons}, batches_of(calibration, made))
    generator = torch.Generator().manual_seed(seed)
    for part, path, outputs in lessons:
        inputs, answers = heard[path][0], heard[path][1][:, outputs]
        _learn(part, inputs, answers, steps, tokens, lr, generator)
        labels = fewest(part, inputs, answers, better)
        _teach(part, inputs, labels, gate_steps, tokens, gate_lr, generator)
    return made


def _feedforward(made: nn.Module, path: str, learners: int, *, seed: int) -> list[Lesson]:
    """Learners that stand for an MLP."""
    old: Any = made.get_submodule(path)
    hidden = old.up.out_features
    if hidden % learners:
        raise DoesNotFit(f"{hidden} hidden units do not fall into {learners} learners; choose a divisor", path)
    options = {
        "learners": learners, "hidden": hidden // learners, "activation": old.spec.get("activation"),
        "bias": old.down.bias is not None,
    }  # fmt: skip
    swap(made, path, spec(Projected, projection=Spec(Adaptive, options)), seed=seed)
    part: Any = made.get_submodule(path).projection
    take(part, old)
    return [(part, path, slice(None))]


def _attention(made: nn.Module, path: str, learners: int, *, cost: float, seed: int) -> list[Lesson]:
    """Learners that stand for the maps of an attention."""
    old: Any = made.get_submodule(path)
    options = {name: each for name, each in old.spec.options.items() if name not in ("bias", "output_bias")}
    if lost := [name for name, each in options.items() if name not in signature(ProjectedAttention) and each]:
        raise DoesNotFit(f"attention of learners has no {', '.join(lost)}", path)
    options = {name: each for name, each in options.items() if name in signature(ProjectedAttention)}
    forms = {}
    for name, linear in (("projection", old.qkv), ("output_projection", old.output)):
        inputs, outputs = linear.in_features, (old.sizes[0] if linear is old.qkv else linear.out_features)
        units = 2 * round(cost * inputs * outputs / (inputs + outputs) / learners / 2)
        if not units:
            raise DoesNotFit(f"{learners} learners are too many for {cost} of a map {inputs} x {outputs}", path)
        bias = linear.bias is not None
        forms[name] = spec(Adaptive, learners=learners, hidden=units, bias=bias)
    swap(made, path, Spec(ProjectedAttention, {**options, **forms}), seed=seed)
    new: Any = made.get_submodule(path)
    new.load_state_dict(old.state_dict(), strict=False)
    starts = [sum(old.sizes[:i]) for i in range(len(old.sizes))]
    rows = [slice(start, start + size) for start, size in zip(starts, old.sizes, strict=True)]
    for part, each in zip(new.projection, rows, strict=True):
        begin(part, old.qkv.weight[each], None if old.qkv.bias is None else old.qkv.bias[each])
    begin(new.output_projection, old.output.weight, old.output.bias)
    queries = [(part, f"{path}.qkv", each) for part, each in zip(new.projection, rows, strict=True)]
    return [*queries, (new.output_projection, f"{path}.output", slice(None))]


@torch.no_grad()
def take(part: Adaptive, old: nn.Module) -> None:
    """Let each learner be its group of an MLP's hidden units: all together they are the MLP."""
    part.up.load_state_dict(old.up.state_dict())  # type: ignore[union-attr]
    part.down.load_state_dict(old.down.state_dict())  # type: ignore[union-attr]


@torch.no_grad()
def begin(part: Adaptive, weight: Float[Tensor, "E D"], bias: Float[Tensor, " E"] | None) -> None:
    """Let the learners be the singular directions of a linear map, the largest first: with as many as its rank they are it.

    A direction takes two hidden units, as gelu(a) - gelu(-a) = a.
    """
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    count = min(len(sizes), part.up.out_features // 2)
    root = sizes[:count].sqrt()
    rows, columns = right[:count] * root[:, None], left[:, :count] * root
    for each in (part.up.weight, part.up.bias, part.down.weight):
        each.zero_()
    part.up.weight[: 2 * count] = torch.stack((rows, -rows), 1).flatten(0, 1)
    part.down.weight[:, : 2 * count] = torch.stack((columns, -columns), 2).flatten(1)
    if bias is not None:
        part.down.bias.copy_(bias)


@torch.no_grad()
def fewest(
    part: Adaptive, inputs: Float[Tensor, "T D"], answers: Float[Tensor, "T D"], better: float
) -> Int[Tensor, " T"]:
    """For each token the least number of learners after which one more divides the error by less than `better`."""
    errors = (part.prefixes(inputs) - answers[:, None]).norm(dim=-1)[:, part.least :]
    enough = errors[:, :-1] < better * errors[:, 1:]
    last = torch.ones_like(enough[:, :1])
    return part.least + torch.cat((enough, last), 1).int().argmax(1)


def _heard(
    model: nn.Module, paths: set[str], batches: list[dict[str, Tensor]]
) -> dict[str, tuple[Float[Tensor, "T D"], Float[Tensor, "T E"]]]:
    """What each of these was given, token by token, and what it said."""
    heard: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in paths}

    def hear(path: str, given: Tokens | Tensor, said: Tensor) -> None:
        values = given.values if isinstance(given, Tokens) else given
        heard[path].append((values.flatten(0, -2), said.flatten(0, -2)))

    with ExitStack() as stack, torch.no_grad():
        for path in paths:
            hook = lambda module, given, said, path=path: hear(path, given[0], said)  # noqa: E731
            stack.callback(model.get_submodule(path).register_forward_hook(hook).remove)
        for batch in batches:
            model(**batch)
    return {path: tuple(torch.cat(each) for each in zip(*pairs)) for path, pairs in heard.items()}  # type: ignore[misc]


def _learn(
    part: Adaptive, inputs: Tensor, answers: Tensor, steps: int, tokens: int, lr: float, generator: torch.Generator
) -> None:
    """Phase one: the mean over k of the squared distance of h_k to what the MLP said."""
    optimizer = torch.optim.Adam([*part.up.parameters(), *part.down.parameters()], lr=lr)
    for step in range(steps):
        rows = torch.randint(len(inputs), (tokens,), generator=generator)
        loss = (part.prefixes(inputs[rows]) - answers[rows, None]).square().mean()
        _step(optimizer, loss, lr * (1 - step / steps))


def _teach(
    part: Adaptive, inputs: Tensor, labels: Tensor, steps: int, tokens: int, lr: float, generator: torch.Generator
) -> None:
    """Phase two: cross entropy of the gate against the labels."""
    optimizer = torch.optim.Adam(part.gate.parameters(), lr=lr)
    for step in range(steps):
        rows = torch.randint(len(inputs), (tokens,), generator=generator)
        loss = F.cross_entropy(part.gate(inputs[rows]), labels[rows] - part.least)
        _step(optimizer, loss, lr * (1 - step / steps))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
