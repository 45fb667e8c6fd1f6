"""Where a run's figures go besides metrics.jsonl: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import yaml

from everyformer.errors import EveryformerError, UnknownName
from everyformer.recipe import Recipe, flatten
from everyformer.training.files import full_disk_stops, write_text

FOLDER, ID = "tensorboard", "log-{}.txt"


class Log:
    """Base of logs: the figures of the run in `folder`, which goes on after `step`, or begins where that is None."""

    package: ClassVar[str] = ""

    def __init__(self, folder: Path, recipe: Recipe, step: int | None) -> None:
        raise NotImplementedError

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Note figures by name."""
        raise NotImplementedError

    def close(self, ended: bool) -> None:
        """Leave the log; `ended` is false of a run that could not go on."""
        raise NotImplementedError


class TensorBoard(Log):
    """Event files in the run's folder `tensorboard`; `tensorboard --logdir runs` shows all runs."""

    package = "tensorboard"

    def __init__(self, folder: Path, recipe: Recipe, step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / FOLDER), purge_step=(step or 0) + 1)
        if step is None:
            plain = yaml.safe_dump(recipe.to_plain(), sort_keys=False)
            self.writer.add_text("recipe", f"```yaml\n{plain}```", 1)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Note figures by name."""
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self, ended: bool) -> None:
        """Write what is left."""
        self.writer.close()


class MLflow(Log):
    """A run of the experiment that has the recipe's name, where MLFLOW_TRACKING_URI says; its parameters are the recipe."""

    package = "mlflow"

    def __init__(self, folder: Path, recipe: Recipe, step: int | None) -> None:
        import mlflow

        self.client = mlflow.MlflowClient()
        kept = folder / ID.format(self.package)
        if step is not None and kept.is_file():
            self.id = kept.read_text()
            self.client.update_run(self.id, "RUNNING")
            return
        experiment = self.client.get_experiment_by_name(recipe.name)
        number = self.client.create_experiment(recipe.name) if experiment is None else experiment.experiment_id
        self.id = self.client.create_run(number, run_name=folder.name).info.run_id
        write_text(kept, self.id)
        for key, value in flatten(recipe.to_plain()):
            self.client.log_param(self.id, key, value)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Note figures by name."""
        for name, value in figures.items():
            self.client.log_metric(self.id, name, value, step=step)

    def close(self, ended: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.id, "FINISHED" if ended else "FAILED")


class WandB(Log):
    """A run of the project that has the recipe's name; WANDB_MODE=offline keeps it in the run's folder."""

    package = "wandb"

    def __init__(self, folder: Path, recipe: Recipe, step: int | None) -> None:
        import wandb

        kept = folder / ID.format(self.package)
        known = kept.read_text() if step is not None and kept.is_file() else None
        self.run = wandb.init(
            project=recipe.name, name=folder.name, dir=str(folder), config=recipe.to_plain(), id=known, resume="allow",
        )  # fmt: skip
        write_text(kept, self.run.id)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Note figures by name."""
        self.run.log(dict(figures), step=step)

    def close(self, ended: bool) -> None:
        """Say how the run ended."""
        self.run.finish(exit_code=0 if ended else 1)


LOGS: dict[str, type[Log]] = {each.package: each for each in (TensorBoard, MLflow, WandB)}


def chosen(names: Sequence[str] | None) -> list[type[Log]]:
    """The logs of these names; where none are asked for, TensorBoard if it is installed."""
    if names is None:
        names = [TensorBoard.package] if find_spec(TensorBoard.package) else []
    for name in names:
        if name not in LOGS:
            raise UnknownName("log (training.logging)", name, LOGS)
        if find_spec(name) is None:
            raise EveryformerError(
                f"training.logging names '{name}', and that package is not installed; pip install {name}, or leave it "
                "out (metrics.jsonl in the run's folder always has all figures)"
            )
    return [LOGS[name] for name in names]


@contextmanager
def opened(kinds: Sequence[type[Log]], folder: Path, recipe: Recipe, step: int | None) -> Iterator[list[Log]]:
    """Logs of a run for as long as it goes on."""
    with full_disk_stops(folder, "the log"):
        logs = [kind(folder, recipe, step) for kind in kinds]
    ended = False
    try:
        yield logs
        ended = True
    finally:
        for log in logs:
            log.close(ended)
