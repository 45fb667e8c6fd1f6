"""The commands, and how they end: 0 done, 2 something given cannot be used, 1 a run that could not go on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from everyformer.errors import EveryformerError, RunFailed

app = typer.Typer(
    name="everyformer",
    help="Every published transformer design, made of parts that fit each other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Format = Annotated[
    str,
    typer.Option("--precision", help="fp32; bf16; auto: bf16 where this machine is fast at it (about 3 digits kept)."),
]


def main() -> None:
    """Run a command; what a user can cause ends in one message, without a traceback."""
    from everyformer.cli import browse, compare, evidence, export, look, plan, shrink, speedup, sweep, use, work

    for module in (browse, work, use, export, compare, sweep, plan, evidence, look, speedup, shrink):
        module.register(app)
    try:
        app()
    except EveryformerError as error:
        print(f"everyformer: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RunFailed) else 2)
    except KeyboardInterrupt:
        print("everyformer: stopped; `--resume` goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint in the Hugging Face format."""
    return (path / "config.json").is_file()


def opened(path: Path, precision: str = "fp32") -> Any:
    """The run in a folder, or the checkpoint, in a number format for use."""
    if not is_checkpoint(path):
        from everyformer.training import Run

        return Run.open(path, precision=precision)
    from everyformer.interop import Checkpoint
    from everyformer.training.precision import choose, use

    choose(precision)
    held = Checkpoint.open(path)
    use(held.model, precision)
    return held


def print_json(value: Any) -> None:
    """One JSON document on standard output; arrays as lists."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=lambda array: array.tolist()))


def table(columns: list[str], rows: list[list[str]], *, numbers: tuple[str, ...] = ()) -> None:
    """A table on standard output; only columns that hold sentences are wrapped."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        long = max((len(line) for row in rows for line in row[i].splitlines()), default=0) > 30
        made.add_column(column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=not long)
    for row in rows:
        made.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(made)
