"""The loop: a recipe into a run, the same whether it was interrupted or not."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from everyformer.costs import flops, on_meta, parameters
from everyformer.errors import EveryformerError, RunFailed
from everyformer.objectives.base import LABELS
from everyformer.training import checkpoints
from everyformer.training.averaging import Average, Exponential, LastMeans, copy_of, holding, put, weights
from everyformer.training.designing import design_for
from everyformer.training.feed import Feed, Part, Steps
from everyformer.training.files import full_disk_stops, save_tensors, write_json
from everyformer.training.optimizers import optimizers, restore, state_of
from everyformer.training.order import order_of, seed_of, steps_of
from everyformer.training.precision import Precision, choose
from everyformer.training.progress import Display, Metrics
from everyformer.training.run import METRICS, RESULT, WEIGHTS, Run, prepare, save_beginning, versions
from everyformer.training.schedules import Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from everyformer.data import Score, Task
    from everyformer.designs import Design
    from everyformer.objectives import Objective
    from everyformer.recipe import Recipe


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
    from lightning_fabric import Fabric

    training = recipe.training
    precision = choose(training.precision)
    fabric = Fabric(devices=training.devices, strategy=training.strategy, precision=precision.fabric)
    ended = (Path(folder) / RESULT).is_file() and resume and not overwrite
    if not ended:
        fabric.launch(_train, recipe, Path(folder), resume, overwrite, progress, task, design, precision)
    return Run.open(folder)


def _train(
    fabric: Fabric,
    recipe: Recipe,
    folder: Path,
    resume: bool,
    overwrite: bool,
    progress: bool,
    task: Task | None,
    design: Design | None,
    precision: Precision,
) -> None:
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)
    if fabric.is_global_zero:
        prepare(folder, resume=resume, overwrite=overwrite)
    if task is None:
        from everyformer.data import find_task

        task = find_task(recipe.task).open(**recipe.data)
    if design is None:
        design = design_for(recipe.design, task.facts)
    with Display(recipe.name, progress and fabric.is_global_zero) as display, torch.random.fork_rng():
        loop = Loop(fabric, recipe, folder, task, design, precision, display)
        if fabric.is_global_zero:
            save_beginning(folder, recipe, design, task)
        fabric.barrier()
        loop.run(resume)


@dataclass
class State:
    """Where a run is: what a checkpoint holds beside tensors."""

    step: int = 0
    seconds: float = 0.0
    """Time in steps; evaluations and checkpoints do not count."""
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    """Evaluations since the best one."""
    stopped: bool = False
    window: dict[str, float] = field(default_factory=dict)
    """Sums since the last line of metrics."""


class Lesson(nn.Module):
    """A model and its objective as one module, so that whatever wraps it wraps both."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of a batch as total and count."""
        loss = self.objective(self.model, batch)
        return loss.total, loss.count


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
        training = self.training
        if training.ema and training.average:
            raise EveryformerError("training.ema and training.average are two means of the weights; give one of them")
        costs = task.costs("train")
        self.costs = None if costs is None else np.asarray(costs)
        self.order = order_of(task.size("train"), costs, training)
        self.steps = steps_of(training, self.order)
        self.schedule = Schedule(training, self.steps)
        self.model: nn.Module = design.build(seed=training.seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(training.seed))
            objective = task.objective(**recipe.objective).build()
        self.lesson = Lesson(self.model, objective)
        self.optimizers = optimizers(self.lesson, training)
        self.wrapped, *self.stepping = fabric.setup(self.lesson, *self.optimizers)
        if training.compile:
            self.model.compile(dynamic=True)
        self.average: Average | None = None
        if training.ema:
            self.average = Exponential(self.model, training.ema)
        elif training.average:
            self.average = LastMeans(self.model, training.average)
        self.state = State()
        self.best: dict[str, Tensor] = {}
        self.trained = [p for p in self.lesson.parameters() if p.requires_grad]

    def run(self, resume: bool) -> None:
        """Train to the end and write the result."""
        found = checkpoints.newest(self.folder / "checkpoints", self.display.say) if resume else None
        if found is not None:
            self._restore(found)
        if self.fabric.is_global_zero:
            self.metrics = Metrics(self.folder / METRICS, found.step if found else None)
        count = parameters(self.model)
        self.display.say(f"{self.task.describe()}\n{count:,} parameters, {self.precision}")
        if found is not None:
            self.display.say(f"going on after step {found.step}")
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
        steps = Steps(
            self.task, self.order, seed=training.seed, accumulate=training.accumulate,
            rank=fabric.global_rank, world=fabric.world_size,
        )  # fmt: skip
        saved = time.monotonic()
        self.wrapped.train()
        with Feed(steps, self.state.step, training.workers) as feed:
            while not self.over():
                before = self.share()
                started = time.perf_counter()
                samples, parts = next(feed)
                figures = self._step(parts)
                self._tell(samples, time.perf_counter() - started, figures)
                if self._evaluation_due(before):
                    self._evaluate()
                late = time.monotonic() - saved >= training.checkpoint_seconds
                asked = training.checkpoint_every is not None and self.state.step % training.checkpoint_every == 0
                if self.over() or late or asked:
                    self._save()
                    saved = time.monotonic()

    def _step(self, parts: list[Part]) -> dict[str, float]:
        state, fabric = self.state, self.fabric
        rate = self.schedule(state.step, self.share())
        torch.manual_seed(seed_of(self.training.seed, state.step, fabric.global_rank))
        total = count = 0.0
        for i, (batch, weight) in enumerate(parts):
            with fabric.no_backward_sync(self.wrapped, enabled=i + 1 < len(parts)):
                loss, counted = self.wrapped(fabric.to_device(batch))
                fabric.backward(loss * weight)
            total, count = total + float(loss.detach()) * weight, count + float(counted) * weight
        if fabric.world_size > 1:
            total, count = fabric.all_reduce(torch.tensor([total, count]).double(), reduce_op="sum").tolist()
        self._update(total, count, rate)
        if self.average is not None:
            self.average.after_step(self.model, state.step)
        state.step += 1
        return {"total": total, "count": count, "lr": rate}

    def _update(self, total: float, count: float, rate: float) -> None:
        """The gradient of the sum of totals over the sum of counts, clipped; strategies leave its mean over devices."""
        grads = [p.grad for p in self.trained if p.grad is not None]
        scale = self.fabric.world_size / max(count, 1.0)
        norm = float(torch.nn.utils.get_total_norm(grads)) * scale
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise RunFailed(
                f"the {'gradient' if math.isfinite(total) else 'loss'} of step {self.state.step + 1} is not a number "
                f"(learning rate {rate:.3g}); the last checkpoint is kept. Try a lower training.lr, a longer "
                "training.warmup, a smaller training.clip, or training.precision=fp32"
            )
        if self.training.clip is not None:
            scale *= min(1.0, self.training.clip / (norm + 1e-6))
        torch._foreach_mul_(grads, scale)
        for optimizer, stepping in zip(self.optimizers, self.stepping, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate
            stepping.step()
            optimizer.zero_grad()

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
        values = self.average.at_evaluation(self.model, state.step) if self.average is not None else None
        with holding(self.model, values), self.fabric.autocast():
            metrics = self._score("valid", None).metrics if self.fabric.is_global_zero else {}
            metrics = self.fabric.broadcast(metrics)
            name, better = self.task.watched
            figure = metrics[name]
            if state.best is None or (figure < state.best if better == "min" else figure > state.best):
                state.best, state.best_step, state.waited = figure, state.step, 0
                self.best = copy_of(self.model)
            else:
                state.waited += 1
        state.stopped = self.training.patience is not None and state.waited >= self.training.patience
        if self.fabric.is_global_zero:
            self.metrics.add({"step": state.step, "seconds": round(state.seconds, 3), "valid": metrics})
        best = "best so far" if not state.waited else f"best {state.best:.4f} at step {state.best_step}"
        self.display.say(f"step {state.step}: valid {name} {figure:.4f} ({best})")
        if state.stopped:
            self.display.say(f"stopping: no better {name} in {state.waited} evaluations")

    def _score(self, split: str, decoding: dict[str, Any] | None) -> Score:
        self.model.eval()
        score = self.task.evaluate(self.model, split, decoding=decoding)
        self.model.train()
        return score

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        tensors = {
            "model": weights(self.lesson),
            "optimizer": state_of(self.lesson, self.optimizers),
            "average": self.average.state() if self.average is not None else {},
            "best": self.best,
        }
        folder = self.folder / "checkpoints"
        checkpoints.save(folder, self.state.step, asdict(self.state), tensors)
        checkpoints.prune(folder, self.training.checkpoints)

    def _restore(self, found: checkpoints.Checkpoint) -> None:
        put(self.lesson, found.tensors["model"])
        restore(self.lesson, self.optimizers, found.tensors["optimizer"])
        if self.average is not None:
            self.average.load(found.tensors["average"])
        self.best = {name: value.to(self.fabric.device) for name, value in found.tensors["best"].items()}
        self.state = State(**found.state)

    def _finish(self) -> None:
        """Keep the weights that the recipe asks for, score them on the test part in float32, write the result."""
        if self.fabric.is_global_zero:
            if self.training.keep == "best" and self.best:
                put(self.model, self.best)
            elif self.average is not None:
                put(self.model, self.average.at_evaluation(self.model, self.state.step))
            score = self._score("test", dict(self.recipe.decoding)) if self.task.size("test") else None
            with full_disk_stops(self.folder, WEIGHTS):
                save_tensors(self.folder / WEIGHTS, weights(self.model))
                write_json(self.folder / RESULT, self._result(score))
            if score is not None:
                self.display.say(f"test {self.task.metric} {score.metrics[self.task.metric]:.4f}")
        self.fabric.barrier()

    def _result(self, score: Score | None) -> dict[str, Any]:
        state, task, training = self.state, self.task, self.training
        return {
            "name": self.recipe.name, "task": task.name, "system": self.design.name, "metric": task.metric,
            "better": task.better, "metrics": score.metrics if score else {}, "split": "test" if score else None,
            "samples": score.samples if score else 0, "hash": score.hash if score else None,
            "examples": score.examples if score else {}, "valid": {self.task.watched[0]: state.best}, "best_step": state.best_step,
            "parameters": parameters(self.model), "flops": self._flops(), "steps": state.step,
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
