"""Recipes: data, design, objective, training and decoding in one YAML file, of which a variant holds only what differs."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everyformer.errors import EveryformerError, UnknownName, nearest

FOLDER = Path(__file__).parent / "recipes"


@dataclass
class Training:
    """How a design is trained. It ends at the first of `steps`, `epochs` and `seconds`."""

    start: str | None = None
    """The folder of a run or a checkpoint of another design whose weights are taken where names and shapes agree, such as a body
    trained before; `design.from` takes its design too.
    """
    steps: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    batch: int = 64
    """Samples in a step."""
    tokens: int | None = None
    """Tokens in a step, in place of `batch`: sequences of like length go together."""
    accumulate: int = 1
    """Micro-batches in a step; the update is that of the whole batch."""
    optimizer: str = "adamw"
    """'adamw' or 'muon'."""
    lr: float = 1e-3
    min_lr: float = 0.0
    schedule: str = "cosine"
    """'cosine', 'inverse-sqrt' or 'constant', each after the warm-up."""
    warmup: float = 0.05
    """Steps of warm-up; below 1 it is a share of all steps."""
    weight_decay: float = 0.05
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    clip: float | None = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and kept; 0 keeps the weights themselves."""
    average: int = 0
    """Evaluate and keep the mean of the weights at this many of the last evaluations; 0 does not."""
    precision: str = "auto"
    """'auto' (bf16 where this machine is fast at it), 'bf16' or 'fp32'."""
    compile: bool = False
    recompute: bool = False
    """Of each block keep the input alone, and compute the rest again for the backward pass (activation checkpointing)."""
    seed: int = 0
    workers: int = 0
    evaluate_every: int | None = None
    """Steps between evaluations on the validation part; None: ten times a run."""
    patience: int | None = None
    """Evaluations without a better figure after which training stops."""
    keep: str = "best"
    """'best' on the validation part, or 'last'."""
    checkpoint_every: int | None = None
    """Steps between checkpoints."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints."""
    checkpoints: int = 2
    """How many checkpoints stay."""
    threads: int | None = None
    devices: int = 1
    """Devices of each host."""
    nodes: int = 1
    """Hosts, on each of which torchrun or a scheduler starts the same command."""
    strategy: str = "auto"
    """'auto', 'ddp' (copies), 'fsdp' (cut over all processes), or another name of Lightning's."""
    offload: bool = False
    """With 'fsdp': what is cut waits in the memory of the host, and comes to the device a block at a time."""
    tensor_parallel: int = 1
    """Processes that share the heads and hidden units of each part; all else of them cuts the weights, as 'fsdp' does."""
    context_parallel: int = 1
    """Processes that share each sequence: every one has a part of it, and attention goes round over all."""
    logging: list[str] | None = None
    """'tensorboard', 'mlflow', 'wandb', beside metrics.jsonl; None: TensorBoard where it is installed."""


@dataclass
class Recipe:
    """A recipe with every value resolved; `origins` says where each came from."""

    name: str = ""
    task: str = ""
    """What is learnt: 'image-classification', 'translation', ..."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the data is and how it is read: the options of the task."""
    design: dict[str, Any] = field(default_factory=dict)
    """`system`, `size` and the options of the system, or `from`, the folder of a trained model, which stands for these;
    `edits` is a list of {swap|insert|remove|set: path, ...}."""
    objective: dict[str, Any] = field(default_factory=dict)
    """Options of the task's objective, or another one: {objectives.Part: {option: value}}."""
    training: Training = field(default_factory=Training)
    decoding: dict[str, Any] = field(default_factory=dict)
    compare: dict[str, Any] = field(default_factory=dict)
    """`designs`: name to what differs in `design` (and `training`, `data` and `objective`) when designs are compared."""
    origins: dict[str, str] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """The values without their origins."""
        plain = dataclasses.asdict(self)
        del plain["origins"]
        return plain

    def explain(self) -> str:
        """Every value, a line each, with where it came from."""
        return "\n".join(f"{k} = {v!r}    # {self.origins.get(k, 'default')}" for k, v in flatten(self.to_plain()))


def known_recipes() -> dict[str, Path]:
    """The recipes that come with the library."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load_recipe(
    name: str | Path, overrides: Iterable[str] = (), layer: tuple[str, Mapping[str, Any]] | None = None
) -> Recipe:
    """A recipe by name or path, with `key.inner=value` overrides; unknown keys are refused, with the nearest known.

    `layer` is laid over the recipe, below the overrides: what the values' origin is called, and the values.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    origins: dict[str, str] = {}
    merged: Any = OmegaConf.create({})
    layers = [*_layers(name), *([layer] if layer else ()), *_overrides(overrides)]
    for label, values in layers:
        _check(values, label)
    for label, values in _without_replaced(layers):
        merged = OmegaConf.merge(merged, OmegaConf.create(dict(values)))
        origins.update(dict.fromkeys((key for key, _ in flatten(values)), label))
    try:
        plain: dict[str, Any] = OmegaConf.to_container(merged, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise EveryformerError(f"recipe '{name}' cannot be resolved: {str(error).splitlines()[0]}") from None
    training = Training(**plain.pop("training", {}))
    _check_length(training, str(name))
    return Recipe(**{"name": Path(name).stem, **plain}, training=training, origins=origins)


def read_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """`key.inner=value` overrides as one nested dictionary, checked."""
    from omegaconf import OmegaConf

    read = _overrides(overrides)
    for label, values in read:
        _check(values, label)
    return dict(OmegaConf.to_container(OmegaConf.merge({}, *(values for _, values in read))))  # type: ignore[arg-type]


def from_plain(plain: Mapping[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_plain` gave."""
    _check(plain, "recipe")
    plain = dict(plain)
    return Recipe(**{**plain, "training": Training(**plain.get("training", {}))})


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as dotted keys."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found += flatten(value, path + ".")
        else:
            found.append((path, value))
    return found


def _layers(name: str | Path, below: tuple[Path, ...] = ()) -> list[tuple[str, dict[str, Any]]]:
    """The file, after those it inherits from."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = known_recipes()
        if str(name) not in known:
            raise UnknownName("recipe", str(name), known)
        path = known[str(name)]
    if not path.is_file():
        raise EveryformerError(f"no recipe at '{path}'; give the name of a known recipe or the path of a YAML file")
    if path.resolve() in below:
        raise EveryformerError(f"'{path}' inherits from itself; name another recipe after 'inherit'")
    try:
        values = OmegaConf.to_container(OmegaConf.create(path.read_text()))
    except YAMLError as error:
        raise EveryformerError(f"'{path}' is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise EveryformerError(f"'{path}' holds a {type(values).__name__}; a recipe is a mapping of keys to values")
    parent = values.pop("inherit", None)
    beside = path.parent / f"{parent}.yaml"
    below = *below, path.resolve()
    above = _layers(beside if parent and beside.is_file() else parent, below) if parent else []
    return [*above, (path.name, {str(k): v for k, v in values.items()})]


def _without_replaced(layers: list[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The layers, without the designs below the one that says `design.from`, which stands for a whole design."""
    starting = [label for label, values in layers if "from" in values.get("design", {})]
    below = bool(starting)
    for label, values in layers:
        below = below and label != starting[-1]
        yield label, {key: value for key, value in values.items() if not (below and key == "design")}


def _overrides(overrides: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    from omegaconf import OmegaConf

    found: list[tuple[str, dict[str, Any]]] = []
    for each in overrides:
        if not each.partition("=")[0] or "=" not in each:
            raise EveryformerError(f"'{each}' is not an override; write key=value, such as training.steps=200")
        found.append(("command line", OmegaConf.to_container(OmegaConf.from_dotlist([each]))))  # type: ignore[arg-type]
    return found


def _check(values: Mapping[str, Any], label: str) -> None:
    known = {f.name: f for f in dataclasses.fields(Recipe) if f.name != "origins"}
    every = [*known, *(f"training.{f.name}" for f in dataclasses.fields(Training))]
    for key, value in values.items():
        if key not in known:
            raise EveryformerError(f"unknown key '{key}' in {label}; {nearest(key, [*known, *every])}")
        if key not in ("name", "task") and not isinstance(value, Mapping):
            raise EveryformerError(
                f"'{key}' holds options by name, such as {key}.option=value; {label} gives {value!r}"
            )
        if key == "training":
            hints = typing.get_type_hints(Training)
            for inner, given in value.items():
                if inner not in hints:
                    known_options = [f.name for f in dataclasses.fields(Training)]
                    raise EveryformerError(
                        f"unknown key 'training.{inner}' in {label}; {nearest(inner, known_options)}"
                    )
                _check_type(f"training.{inner}", given, hints[inner], label)


def _check_type(key: str, value: Any, hint: Any, label: str) -> None:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(list if typing.get_origin(k) is list else k for k in kinds)
    if float in plain:
        plain = (*plain, int)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join("nothing" if k is type(None) else k.__name__ for k in plain)
        raise EveryformerError(f"{key} takes {names}; {label} gives {value!r}")


def _check_length(training: Training, name: str) -> None:
    given = [k for k in ("steps", "epochs", "seconds") if getattr(training, k) is not None]
    if len(given) == 0:
        raise EveryformerError(
            f"recipe '{name}' does not say how long to train; give training.steps, .epochs or .seconds"
        )
