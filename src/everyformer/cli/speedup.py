"""`speedup`: make a trained run faster."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from everyformer.cli.app import Json, print_json, table
from everyformer.cli.work import opened_on
from everyformer.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(speedup)


def speedup(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint's in the Hugging Face format.")],
    data: Annotated[
        str | None, typer.Option(help="Your data; by default the run's own. For a checkpoint also a recipe's name.")
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            help="The share of the time that may be needed, or processor milliseconds for a batch: 0.6, 12ms."
        ),
    ] = "0.6",
    max_loss: Annotated[float, typer.Option(help="The points that may be lost.")] = 0.5,
    batch: Annotated[int, typer.Option(help="Samples at once, for the times.")] = 32,
    split: Annotated[str, typer.Option(help="The part of the data to choose on.")] = "valid",
    out: Annotated[Path | None, typer.Option(help="The folder of the faster run; RUN-faster by default.")] = None,
    as_json: Json = False,
) -> None:
    """Try fewer tokens, fewer bits and no padding on a run and its data, print quality against time, keep the best as a run."""
    from everyformer.training.speedup import best, inputs, keep_as, share_of, tried

    folder = out or run.with_name(f"{run.name}-faster")
    if folder.exists():
        raise BadInput(f"'{folder}' exists; give another folder (--out)")
    with TemporaryDirectory() as beside:
        opened, task = opened_on(run, data, Path(beside) / "run")
        share = share_of(budget, opened.model, inputs(task, split, batch))
        found = [*tried(opened, task, budget=share, split=split, batch=batch)]
        chosen = best(found, budget=share, max_loss=max_loss)
        if chosen is not None:
            how, model = chosen
            keep_as(opened, model, folder, data=how.data, faster_than=str(run), reduction=asdict(how))
    if as_json:
        kept = None if chosen is None else {**asdict(chosen[0]), "folder": str(folder)}
        return print_json({"metric": task.metric, "tried": [asdict(each) for each, _ in found], "best": kept})
    rows = []
    for each, _ in found:
        if each.refused:
            rows.append([each.name, "", "", "", f"refused: {each.refused}", "", ""])
            continue
        pace = f"{each.speed:.2f} times as fast" if each.speed >= 1 else f"slower: {each.speed:.2f} times as fast"
        rows.append(
            [each.name, f"{each.keep:.3f}", f"{each.metric:.4f}", f"{each.loss:+.2f}", pace, f"{each.milliseconds:.3g}",
             f"{each.flops:.0%}"]
        )  # fmt: skip
    table(["tried", "keep", task.metric, "points lost", "speed", "ms", "FLOPs"], rows)
    if chosen is None:
        print(
            f"none needs {share:.0%} of the time and loses at most {max_loss} points; give a larger --budget or --max-loss"
        )
    else:
        print(f"{chosen[0].name} kept in {folder}; it goes on with `everyformer predict`, `evaluate` and the others")
