"""What can be known to be wrong with a recipe before any data is read."""

from __future__ import annotations

from torch import nn

from everyformer.designs import design_of, parts_at
from everyformer.errors import DoesNotFit, EveryformerError, UnknownName
from everyformer.recipe import Recipe, Training
from everyformer.training import logs
from everyformer.training.designing import check_design
from everyformer.training.optimizers import find_optimizer
from everyformer.training.precision import choose
from everyformer.training.schedules import find_schedule

_AT_LEAST_ONE = ("steps", "batch", "tokens", "accumulate", "evaluate_every", "patience", "checkpoint_every", "checkpoints", "threads", "devices", "nodes", "tensor_parallel", "context_parallel")  # fmt: skip
_MORE_THAN_ZERO = ("epochs", "seconds", "lr", "clip")


def check(recipe: Recipe) -> None:
    """Refuse names that nothing has, and numbers that nothing can be done with."""
    training = recipe.training
    find_optimizer(training.optimizer)
    find_schedule(training.schedule)
    choose(training.precision)
    logs.chosen(training.logging)
    if training.keep not in ("best", "last"):
        raise UnknownName("training.keep", training.keep, ("best", "last"))
    _check_numbers(training)
    if training.ema and training.average:
        raise EveryformerError("training.ema and training.average are two means of the weights; give one of them")
    if training.warmup >= 1 and training.steps is None and training.epochs is None:
        raise EveryformerError(
            f"training.warmup={training.warmup:g} counts steps, and a run of training.seconds has no number of steps; "
            "give the warm-up as a share below 1, or training.steps"
        )
    if training.recompute and training.compile:
        raise EveryformerError(
            "training.recompute=true goes through each block twice, and a compiled graph is one pass; give "
            "training.recompute=true or training.compile=true, not both"
        )
    _check_sharing(training)
    check_design(recipe.design)
    if recipe.decoding:
        from everyformer.data.decoding import Decoding

        Decoding.of(recipe.decoding)


def check_learns(model: nn.Module) -> None:
    """Refuse a model in which a linear map has a form that training cannot change."""
    for path in design_of(model).forms():
        for _, _, form in parts_at(model, path):
            if not form.learns:
                raise DoesNotFit(
                    f"{type(form).__name__} holds a weight that training cannot change; train the run that was made "
                    "smaller and make it smaller again, or put the plain map back (ef.remove)",
                    path,
                )


def _check_sharing(training: Training) -> None:
    """Refuse what processes that share parts or sequences cannot do."""
    processes = training.devices * training.nodes
    if training.offload and training.strategy != "fsdp":
        raise EveryformerError(
            f"training.offload=true goes with training.strategy=fsdp, which cuts what is to wait; given "
            f"'{training.strategy}'"
        )
    for name in ("tensor_parallel", "context_parallel"):
        if processes % getattr(training, name):
            raise EveryformerError(
                f"training.{name}={getattr(training, name)} does not divide the {processes} processes of "
                f"training.devices={training.devices} on training.nodes={training.nodes}; give a number that does"
            )
    if training.tensor_parallel == 1:
        return
    given = f"training.tensor_parallel={training.tensor_parallel}"
    if training.context_parallel > 1:
        raise EveryformerError(f"{given} and training.context_parallel={training.context_parallel}: give one of them")
    if training.strategy not in ("auto", "fsdp"):
        raise EveryformerError(f"{given} goes with training.strategy=fsdp; given '{training.strategy}'")
    if training.optimizer == "muon":
        raise EveryformerError(
            f"training.optimizer=muon looks at whole matrices, and with {given} no process has them; give "
            "training.optimizer=adamw"
        )


def _check_numbers(training: Training) -> None:
    for names, least, words in ((_AT_LEAST_ONE, 1, "at least 1"), (_MORE_THAN_ZERO, 1e-300, "more than 0")):
        for name in names:
            value = getattr(training, name)
            if value is not None and not value >= least:
                raise EveryformerError(f"training.{name}={value} cannot be; give {words}")
    if not 0 <= training.ema < 1:
        raise EveryformerError(f"training.ema={training.ema} cannot be; give a decay from 0 to below 1, such as 0.999")
    if len(training.betas) != 2:
        raise EveryformerError(f"training.betas={training.betas} cannot be; give two numbers, such as [0.9, 0.999]")
