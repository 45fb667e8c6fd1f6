"""The points of a sweep and who runs them, in a database that outlives every process: Optuna's storage."""

from __future__ import annotations

import fcntl
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from everyformer.errors import BadInput, EveryformerError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

EVERY, SILENT = 3, 15
"""Seconds between signs of life of a point that is run, and after how many without one its process counts as dead."""
TRIES = 3
"""How many processes may die of a point before it counts as failed."""


@dataclass(frozen=True)
class Point:
    """A point that this process runs."""

    id: int
    name: str
    recipe: dict[str, Any]


class Store:
    """What is to be run, by whom it is run, and what came of it; any number of processes share one.

    A point's attempts are Optuna's trials. The one that counts is the first that has not failed, so that a point which two
    processes enter at once is run once.
    """

    def __init__(self, url: str, folder: Path, study: str, better: str) -> None:
        optuna = _optuna()
        from sqlalchemy.exc import SQLAlchemyError

        self.optuna, self.folder = optuna, folder
        folder.mkdir(parents=True, exist_ok=True)
        again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=TRIES - 1)
        try:
            with self._alone():
                self.storage = optuna.storages.RDBStorage(
                    url, heartbeat_interval=EVERY, grace_period=SILENT, heartbeat_stale_trial_callback=again
                )
                self.study = optuna.create_study(
                    storage=self.storage, study_name=study, load_if_exists=True,
                    direction="maximize" if better == "max" else "minimize",
                )  # fmt: skip
        except (SQLAlchemyError, ImportError) as error:
            raise BadInput(
                f"the store '{url}' cannot be opened: {str(error).splitlines()[0]}; give the URL of a database, such as "
                "sqlite:///sweep.db or postgresql://user:password@host/name, and install its driver"
            ) from error

    def enter(self, points: Mapping[str, dict[str, Any]]) -> None:
        """Add points with their recipes: those that are not there, and those that failed, which are tried again."""
        with self._alone():
            known = self.points()
            for name, recipe in points.items():
                if name in known and known[name].user_attrs["recipe"] != recipe:
                    raise EveryformerError(
                        f"'{name}' was swept with another recipe in '{self.folder}'; give another folder (--out)"
                    )
                if name not in known or known[name].state.name == "FAIL":
                    self.study.enqueue_trial({}, user_attrs={"point": name, "recipe": recipe})

    def points(self) -> dict[str, FrozenTrial]:
        """The attempt that counts of each point."""
        found: dict[str, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            name = trial.user_attrs["point"]
            if name not in found or found[name].state.name == "FAIL":
                found[name] = trial
        return found

    def next(self) -> Point | None:
        """A point for this process, None when all are done; waits for those of others, and takes over from the dead."""
        while True:
            with self._alone():
                self.optuna.storages.fail_stale_trials(self.study)
                points = self.points()
                for name, trial in points.items():
                    if trial.state.name == "WAITING" and self._take(trial):
                        return Point(trial._trial_id, name, trial.user_attrs["recipe"])
            if all(trial.state.is_finished() for trial in points.values()):
                return None
            time.sleep(1)

    def done(self, point: Point, figure: float) -> None:
        """A point ended with this figure."""
        self.storage.set_trial_state_values(point.id, self.optuna.trial.TrialState.COMPLETE, [figure])

    def failed(self, point: Point, why: str) -> None:
        """A point cannot be run."""
        self.storage.set_trial_user_attr(point.id, "error", why)
        self.storage.set_trial_state_values(point.id, self.optuna.trial.TrialState.FAIL)

    @contextmanager
    def alive(self, point: Point) -> Iterator[None]:
        """Give signs of life while a point is run."""
        over = Event()

        def beat() -> None:
            while not over.wait(EVERY):
                self.storage.record_heartbeat(point.id)

        thread = Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _take(self, trial: FrozenTrial) -> bool:
        try:
            taken = self.storage.set_trial_state_values(trial._trial_id, self.optuna.trial.TrialState.RUNNING)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            return False
        if taken:
            self.storage.record_heartbeat(trial._trial_id)
        return taken

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of this folder at a time: SQLite cannot lock the row that is looked at."""
        with open(self.folder / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise EveryformerError(
            "a sweep keeps its state in Optuna's storage, which is not installed: pip install 'everyformer[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
