"""What a run tells while it goes on: a bar or lines for a person, metrics.jsonl for everything else."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from everyformer.recipe import flatten
from everyformer.training.files import full_disk_stops, write_text
from everyformer.training.logs import Log


class Metrics:
    """The file metrics.jsonl: a JSON object a line, in order of steps; and the run's logs."""

    def __init__(self, path: Path, upto: int | None, logs: Sequence[Log] = ()) -> None:
        """Keep the lines up to a step (None: begin anew)."""
        self.path, self.logs = path, logs
        with full_disk_stops(path.parent, path.name):
            write_text(path, "".join(json.dumps(line) + "\n" for line in read(path) if upto and line["step"] <= upto))

    def add(self, line: dict[str, Any]) -> None:
        """Append a line."""
        with full_disk_stops(self.path.parent, self.path.name), open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        self.log(line)

    def log(self, line: dict[str, Any]) -> None:
        """Give a line to the logs alone."""
        figures = {name.replace(".", "/"): float(value) for name, value in flatten(line) if name != "step"}
        with full_disk_stops(self.path.parent, "the log"):
            for log in self.logs:
                log.add(figures, line["step"])


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Display:
    """A bar with loss, speed and time left on a terminal; plain lines elsewhere; nothing when `shown` is false."""

    def __init__(self, name: str, shown: bool) -> None:
        self.shown = shown
        self.bar: Any = None
        self.told = -1
        if shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True, highlight=False)
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(name, total=1.0, text="")

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.console.print(line, markup=False)
        elif self.shown:
            print(line, file=sys.stderr, flush=True)

    def update(self, share: float, step: int, steps: int | None, seconds: float, line: dict[str, Any]) -> None:
        """How far the run is: a share of the whole, with the latest figures."""
        if not self.shown or (self.bar is None and int(20 * share) == self.told):
            return
        self.told = int(20 * share)
        left = seconds * max(1 - share, 0.0) / share if share else 0.0
        speed = f"{line['samples_per_second']:.0f} samples/s"
        if line.get("tokens_per_second"):
            speed += f" ({line['tokens_per_second']:.0f} tokens/s)"
        text = (
            f"step {step}{'' if steps is None else f'/{steps}'}  loss {line['loss']:.4f}  {speed}  left {clock(left)}"
        )
        if self.bar is not None:
            self.bar.update(self.task, completed=min(share, 1.0), text=text)
        else:
            print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """75 as '1:15'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
