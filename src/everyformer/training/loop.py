"""The loop: a recipe into a run, the same whether it was interrupted or not."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from everyformer.compression.adapters import adapters, train_adapters
from everyformer.costs import flops, on_meta, parameters
from everyformer.errors import EveryformerError
from everyformer.mixers import sequence_over
from everyformer.objectives.base import LABELS
from everyformer.training import checkpoints, logs
from everyformer.training.averaging import copy_of, holding, put, weights
from everyformer.training.checks import check, check_learns
from everyformer.training.context_parallel import reaching
from everyformer.training.designing import design_for, objective_for
from everyformer.training.feed import Feed, Steps
from everyformer.training.files import full_disk_stops, save_tensors, write_json
from everyformer.training.lesson import Lesson, State
from everyformer.training.memory import Peak
from everyformer.training.optimizers import common_width
from everyformer.training.order import order_of, seed_of, steps_of
from everyformer.training.precision import Precision, choose
from everyformer.training.progress import Display, Metrics
from everyformer.training.recompute import recompute
from everyformer.training.run import (
    METRICS,
    RESULT,
    WEIGHTS,
    Run,
    prepare,
    refuse,
    save_beginning,
    teacher_for,
    versions,
)
from everyformer.training.schedules import Schedule
from everyformer.training.shards import strategy_of, together
from everyformer.training.starting import FROM, completed, take_over
from everyformer.training.tensor_parallel import kept_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from everyformer.data import Score, Task
    from everyformer.designs import Design
    from everyformer.recipe import Recipe, Training


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    task: Task | None = None,
    design: Design | None = None,
) -> Run:
    """Train a recipe into a folder and open the run; a `task` or `design` given here stands for the recipe's.

    With `resume` a run goes on from its newest whole checkpoint, and ends with the weights of one never interrupted.
    """
    check(recipe)
    if resume and not overwrite and (Path(folder) / RESULT).is_file():
        Display(recipe.name, progress).say(f"the run in '{folder}' has ended already")
        return Run.open(folder)
    if "LOCAL_RANK" not in os.environ:
        refuse(Path(folder), resume=resume, overwrite=overwrite)
    recipe = completed(recipe)
    if task is None:
        from everyformer.data import find_task

        task = find_task(recipe.task).open(**recipe.data)
    if design is None:
        design = design_for(recipe.design, task.facts)
    if recipe.training.context_parallel > 1:
        design = reaching(design)
    planned = on_meta(design)
    check_learns(planned)
    if recipe.training.tensor_parallel > 1:
        kept_whole(planned, recipe.training.tensor_parallel)
    precision = choose(recipe.training.precision, common_width(planned))
    fabric = _fabric(recipe.training, precision)
    fabric.launch(_train, recipe, Path(folder), resume, overwrite, progress, task, design, precision)
    return Run.open(folder)


def _fabric(training: Training, precision: Precision) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        return Fabric(
            devices=training.devices, num_nodes=training.nodes, strategy=strategy_of(training), precision=precision.fabric
        )  # fmt: skip
    except (ValueError, MisconfigurationException) as error:
        raise EveryformerError(
            f"training.devices={training.devices} with training.strategy='{training.strategy}' cannot be: {error}"
        ) from None


def _train(
    fabric: Fabric,
    recipe: Recipe,
    folder: Path,
    resume: bool,
    overwrite: bool,
    progress: bool,
    task: Task,
    design: Design,
    precision: Precision,
) -> None:
    if fabric.is_global_zero:
        prepare(folder, resume=resume, overwrite=overwrite)
    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.training.threads or threads)
    try:
        with (
            Display(recipe.name, progress and fabric.is_global_zero) as display,
            torch.random.fork_rng(),
            together(fabric),
        ):
            Loop(fabric, recipe, folder, task, design, precision, display).run(resume)
    finally:
        torch.set_num_threads(threads)


class Loop:
    """One run in one process."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        folder: Path,
        task: Task,
        design: Design,
        precision: Precision,
        display: Display,
    ) -> None:
        self.fabric, self.recipe, self.training, self.folder = fabric, recipe, recipe.training, folder
        self.task, self.design, self.precision, self.display = task, design, precision, display
        self.peak = Peak()
        training = self.training
        costs = task.costs("train")
        self.costs = None if costs is None else np.asarray(costs)
        self.order = order_of(task.size("train"), costs, training, task.lanes)
        self.steps = steps_of(training, self.order)
        self.schedule = Schedule(training, self.steps)
        self.model: nn.Module = design.build(seed=training.seed)
        start = recipe.design.get(FROM, training.start)
        if start is not None:
            display.say(take_over(self.model, str(start)))
        if adapters(self.model):
            display.say(f"{train_adapters(self.model):,} numbers learn, those of the adapters and of the head")
        if training.recompute:
            display.say(f"{recompute(self.model)} blocks are computed again for the backward pass")
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(training.seed))
            objective = objective_for(task, recipe.objective).build()
        if getattr(objective, "teacher_path", None):
            objective.teach(teacher_for(task, objective.teacher_path).to(fabric.device))
        self.parameters = parameters(self.model)
        if training.tensor_parallel > 1:
            for path, why in kept_whole(self.model, training.tensor_parallel).items():
                display.say(f"{path} is whole in each process: {why}")
        self.group = None
        if training.context_parallel > 1:
            self.group, _ = torch.distributed.new_subgroups(training.context_parallel)
        self.lesson = Lesson(fabric, self.model, objective, training)

    @property
    def state(self) -> State:
        """Where the run is."""
        return self.lesson.state

    def run(self, resume: bool) -> None:
        """Train to the end and write the result."""
        found = None
        if resume:
            models = {**weights(self.model), **weights(self.lesson.both)}
            found = checkpoints.newest(self.folder / "checkpoints", self.display.say, models)
        if found is not None:
            self.lesson.restore(found)
        first = self.fabric.is_global_zero
        if first:
            with full_disk_stops(self.folder, "the run's recipe"):
                save_beginning(self.folder, self.recipe, self.design, self.task)
        self.display.say(f"{self.task.describe()}\n{self.parameters:,} parameters, {self.precision}")
        if found is not None:
            self.display.say(f"going on after step {found.step}")
        step = None if found is None else found.step
        with logs.opened(logs.chosen(self.training.logging) if first else [], self.folder, self.recipe, step) as opened:
            if first:
                self.metrics = Metrics(self.folder / METRICS, step, opened)
            self._steps()
            self._finish()

    def share(self) -> float:
        """How much of the run is over."""
        shares = [] if self.steps is None else [self.state.step / self.steps]
        if self.training.seconds is not None:
            shares.append(self.state.seconds / self.training.seconds)
        return max(shares)

    def over(self) -> bool:
        """Whether the last step is done."""
        return self.state.stopped or self.share() >= 1

    def _steps(self) -> None:
        training, fabric = self.training, self.fabric
        # Processes that share parts or sequences are given the same samples, and those that share parts the same draws.
        parts = training.context_parallel
        alike = training.tensor_parallel * parts
        steps = Steps(
            self.task, self.order, seed=training.seed, accumulate=training.accumulate, rank=fabric.global_rank // alike,
            world=fabric.world_size // alike, part=(fabric.global_rank % parts, parts),
        )  # fmt: skip
        saved = time.monotonic()
        with Feed(steps, self.state.step, training.workers, self.display.say) as feed:
            while not self.over():
                before = self.share()
                started = time.perf_counter()
                samples, batches = next(feed)
                rate = self.schedule(self.state.step, before)
                torch.manual_seed(
                    seed_of(training.seed, self.state.step, fabric.global_rank // training.tensor_parallel)
                )
                with nullcontext() if self.group is None else sequence_over(self.group):
                    total, count = self.lesson.step(batches, rate)
                took = time.perf_counter() - started
                self._tell(samples, took, {"total": total, "count": count, "lr": rate})
                if self._evaluation_due(before):
                    self._evaluate()
                late = time.monotonic() - saved >= training.checkpoint_seconds
                asked = training.checkpoint_every is not None and self.state.step % training.checkpoint_every == 0
                if self.over() or late or asked:
                    self._save()
                    saved = time.monotonic()

    def _tell(self, samples: list[int], took: float, figures: dict[str, float]) -> None:
        """Count the step's time and, now and then, write a line of metrics."""
        state, window = self.state, self.state.window
        state.seconds += self.fabric.broadcast(took) if self.fabric.world_size > 1 else took
        sums = {"total": figures["total"], "count": figures["count"], "samples": len(samples), "seconds": took}
        if self.costs is not None:
            sums["tokens"] = float(self.costs[samples].sum())
        for name, value in sums.items():
            window[name] = window.get(name, 0.0) + value
        every = 10 if self.steps is None else max(1, self.steps // 200)
        if (state.step % every and not self.over()) or not self.fabric.is_global_zero:
            return
        line = {"step": state.step, "seconds": round(state.seconds, 3)}
        line |= {"loss": window["total"] / max(window["count"], 1.0), "lr": figures["lr"]}
        for unit in ("samples", "tokens"):
            if unit in window:
                line[f"{unit}_per_second"] = round(window[unit] / window["seconds"], 1)
        state.window = {}
        self.metrics.add(line)
        self.display.update(self.share(), state.step, self.steps, state.seconds, line)

    def _evaluation_due(self, before: float) -> bool:
        if not self.task.size("valid"):
            return False
        if self.over():
            return True
        if self.training.evaluate_every is not None:
            return self.state.step % self.training.evaluate_every == 0
        if self.steps is not None:
            return self.state.step % math.ceil(self.steps / 10) == 0
        return int(10 * self.share()) > int(10 * before)

    def _evaluate(self) -> None:
        """Score the validation part; keep the weights if they are the best, stop if they have not been for long."""
        state = self.state
        average = self.lesson.average
        values = average.at_evaluation(self.model, state.step) if average is not None else None
        with holding(self.model, values), self.fabric.autocast():
            with self._scored() as model:
                metrics = self._score(model, "valid", None).metrics if model is not None else {}
            metrics = self.fabric.broadcast(metrics)
            name, better = self.task.watched
            figure = metrics[name]
            if state.best is None or (figure < state.best if better == "min" else figure > state.best):
                state.best, state.best_step, state.waited = figure, state.step, 0
                self.lesson.best = copy_of(self.model)
            else:
                state.waited += 1
        state.stopped = self.training.patience is not None and state.waited >= self.training.patience
        if self.fabric.is_global_zero:
            self.metrics.add({"step": state.step, "seconds": round(state.seconds, 3), "valid": metrics})
        best = "best so far" if not state.waited else f"best {state.best:.4f} at step {state.best_step}"
        self.display.say(f"step {state.step}: valid {name} {figure:.4f} ({best})")
        if state.stopped:
            self.display.say(f"stopping: no better {name} in {state.waited} evaluations")

    @contextmanager
    def _scored(self) -> Iterator[nn.Module | None]:
        """The model as the first process scores it, whole where it is cut; None for the others."""
        whole = self.lesson.whole() if self.lesson.cut else None
        if not self.fabric.is_global_zero:
            yield None
        elif whole is None:
            yield self.model
        else:
            model: nn.Module = self.design.build(seed=self.training.seed).to(self.fabric.device)
            put(model, whole)
            yield model

    def _score(self, model: nn.Module, split: str, decoding: dict[str, Any] | None) -> Score:
        model.eval()
        score = self.task.evaluate(model, split, decoding=decoding)
        model.train()
        return score

    def _save(self) -> None:
        folder = self.folder / "checkpoints"
        if self.lesson.cut:
            checkpoints.save(folder, self.state.step, *self.lesson.held(), self.fabric)
        elif self.fabric.is_global_zero:
            checkpoints.save(folder, self.state.step, *self.lesson.held())
        if self.fabric.is_global_zero:
            checkpoints.prune(folder, self.training.checkpoints)

    def _finish(self) -> None:
        """Keep the weights that the recipe asks for, score them on the test part in float32, write the result."""
        average = self.lesson.average
        if self.training.keep == "best" and self.lesson.best:
            put(self.model, self.lesson.best)
        elif average is not None:
            put(self.model, average.at_evaluation(self.model, self.state.step))
        with self._scored() as model:
            if model is not None:
                self._keep(model)
        self.fabric.barrier()

    def _keep(self, model: nn.Module) -> None:
        settled = self.task.settle(model)
        score = self._score(model, "test", dict(self.recipe.decoding)) if self.task.size("test") else None
        baseline = self.task.baseline("test") if score is not None else None
        with full_disk_stops(self.folder, WEIGHTS):
            save_tensors(self.folder / WEIGHTS, weights(model))
            if settled:
                self.task.save(self.folder / "task")
            write_json(self.folder / RESULT, self._result(score, baseline))
        if score is not None:
            self.metrics.log({"step": self.state.step, "test": score.metrics})
            self.display.say(f"test {verdict(score.metrics[self.task.metric], self.task, baseline)}")

    def _result(self, score: Score | None, baseline: dict[str, Any] | None) -> dict[str, Any]:
        state, task, training = self.state, self.task, self.training
        return {
            "name": self.recipe.name, "task": task.name, "system": self.design.name, "metric": task.metric,
            "better": task.better, "metrics": score.metrics if score else {}, "baseline": baseline, "split": "test" if score else None,
            "samples": score.samples if score else 0, "hash": score.hash if score else None,
            "examples": score.examples if score else {}, "valid": {self.task.watched[0]: state.best}, "best_step": state.best_step, "peak_memory": self.peak.so_far(),
            "parameters": self.parameters, "flops": self._flops(), "steps": state.step,
            "epochs": round(state.step / self.order.steps_per_epoch, 3),
            "training_seconds": round(state.seconds, 3), "seed": training.seed, "precision": str(self.precision),
            "device": str(self.fabric.device), "threads": torch.get_num_threads(), "versions": versions(),
        }  # fmt: skip

    def _flops(self) -> int | None:
        """FLOPs of a training sample of middling length; None where a part's work depends on its values."""
        middle = 0 if self.costs is None else int(np.argsort(self.costs, kind="stable")[len(self.costs) // 2])
        batch = self.task.batch("train", [middle])
        try:
            return flops(on_meta(self.design), {name: value for name, value in batch.items() if name != LABELS}).get("")
        except (RuntimeError, NotImplementedError):
            return None


def verdict(figure: float, task: Task, baseline: dict[str, Any] | None) -> str:
    """A figure beside that of an answer that looks at no input."""
    said = f"{task.metric} {figure:.4f}"
    if baseline is None:
        return said
    other = baseline[task.metric]
    better = figure > other if task.better == "max" else figure < other
    return f"{said}, {'better than' if better else 'NO better than'} {baseline['name']} ({other:.4f})"
