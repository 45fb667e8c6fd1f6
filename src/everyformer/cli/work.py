"""`train` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everyformer.cli.app import print_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)
    app.command()(evaluate)


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="training.steps=2000 design.size=tiny ...")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again where a run stands already.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the resolved recipe, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe; the run's folder keeps everything that is needed to use the model."""
    from everyformer.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if explain:
        print(loaded.explain())
        return
    from everyformer.training import train as train_recipe

    folder = out or Path("runs") / loaded.name
    run = train_recipe(loaded, folder, resume=resume, overwrite=overwrite, progress=not as_json)
    if as_json:
        print_json(run.result)
    else:
        print(f"run kept in {folder}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    batch: Annotated[int, typer.Option(help="Samples at once; changes no figure.")] = 256,
    as_json: Json = False,
) -> None:
    """Score a run on one part of its data."""
    from everyformer.training import Run

    score = Run.open(run).evaluate(split, batch=batch)
    if as_json:
        return print_json({"split": split, "metrics": score.metrics, "samples": score.samples, "hash": score.hash})
    for name, value in score.metrics.items():
        print(f"{name:<16} {value:.4f}")
    print(f"{'samples':<16} {score.samples} ({score.hash[:12]})")
