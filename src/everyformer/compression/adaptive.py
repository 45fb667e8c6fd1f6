"""Adaptive computation modules (Wójcik et al., 2025)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.compression.calibration import Calibration, batches_of
from everyformer.designs import design_of
from everyformer.edits import swap
from everyformer.errors import DoesNotFit, UnknownName
from everyformer.feedforward import MLP, Adaptive, Projected
from everyformer.registry import method
from everyformer.specs import Spec, spec


@method(
    "acm",
    title="Adaptive Computation Modules: Granular Conditional Computation For Efficient Inference",
    authors="Wójcik et al.",
    year=2025,
    arxiv="2312.10193",
    idea="A trained feedforward becomes a row of small learners that add up; for each token a gate says how many of them run.",
)
def acm(
    model: nn.Module,
    calibration: Calibration,
    *,
    learners: int = 4,
    steps: int = 300,
    gate_steps: int = 200,
    tokens: int = 256,
    lr: float = 1e-3,
    gate_lr: float = 1e-2,
    better: float = 1.2,
    paths: str = "**.blocks.*.feedforward",
    seed: int = 0,
) -> nn.Module:
    """Section 3.2, phases one and two, for the MLPs at `paths`: a copy of the model.

    Each learner begins as its group of the MLP's hidden units; all prefixes then learn, for `steps` of so many `tokens`,
    what the MLP says. A gate learns the fewest learners after which one more would divide the error by less than `better`.
    Phase three is training under `objectives.Budgeted`.
    """
    made = copy.deepcopy(model).eval()
    found = [path for path in design_of(made).places(paths) if isinstance(made.get_submodule(path), MLP)]
    if not found:
        raise UnknownName("MLP", paths, [path for path, each in design_of(made).walk() if each.part is MLP])
    given = _heard(made, found, batches_of(calibration, made))
    generator = torch.Generator().manual_seed(seed)
    for path in found:
        old = made.get_submodule(path)
        options = {
            "learners": learners, "hidden": _share(old, learners, path), "activation": old.spec.get("activation"),
            "bias": old.down.bias is not None,
        }  # fmt: skip
        swap(made, path, spec(Projected, projection=Spec(Adaptive, options)), seed=seed)
        part = made.get_submodule(path).projection
        take(part, old)
        inputs, answers = given[path]
        _learn(part, inputs, answers, steps, tokens, lr, generator)
        labels = fewest(part, inputs, answers, better)
        _teach(part, inputs, labels, gate_steps, tokens, gate_lr, generator)
    return made


def _share(old: nn.Module, learners: int, path: str) -> int:
    hidden: int = old.up.out_features  # type: ignore[assignment, union-attr]
    if hidden % learners:
        raise DoesNotFit(f"{hidden} hidden units do not fall into {learners} learners; choose a divisor", path)
    return hidden // learners


@torch.no_grad()
def take(part: Adaptive, old: nn.Module) -> None:
    """Let each learner be its group of an MLP's hidden units: all together they are the MLP."""
    part.up.load_state_dict(old.up.state_dict())  # type: ignore[union-attr]
    part.down.load_state_dict(old.down.state_dict())  # type: ignore[union-attr]


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
    model: nn.Module, paths: list[str], batches: list[dict[str, Tensor]]
) -> dict[str, tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]]:
    """What each feedforward was given and what it said."""
    heard: dict[str, list[tuple[Tensor, Tensor]]] = {path: [] for path in paths}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, said, path=path: heard[path].append((args[0].values.flatten(0, 1), said.flatten(0, 1)))
        )
        for path in paths
    ]
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    for hook in hooks:
        hook.remove()
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
