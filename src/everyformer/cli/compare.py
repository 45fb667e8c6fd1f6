"""`compare`: several designs, the same data, the same budget, one table and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from everyformer.cli.app import Json, print_json, table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(compare)


def compare(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="training.seconds=20 ...")] = None,
    designs: Annotated[str | None, typer.Option(help="Names from the recipe or systems, with commas: vit,cct.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder; runs/compare-RECIPE by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again what is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Train several designs on the same data with the same budget; print one table and write report.html."""
    from everyformer.recipe import load_recipe
    from everyformer.report.comparison import write_report
    from everyformer.training.compare import compare as compare_designs

    loaded = load_recipe(recipe, overrides or [])
    folder = out or Path("runs") / f"compare-{loaded.name}"
    chosen = designs.split(",") if designs else None
    results = compare_designs(loaded, folder, designs=chosen, overwrite=overwrite, progress=not as_json)
    page = write_report(loaded, results, folder / "report.html")
    if as_json:
        return print_json(results)
    print_comparison(results)
    print(f"report: {page}")


def print_comparison(results: list[dict[str, Any]]) -> None:
    """The table, a line a design, the best first."""
    from everyformer.report.comparison import cells, columns, ranked, scored_on

    titles = columns(results)
    table(titles, [cells(result) for result in ranked(results)], numbers=tuple(titles[1:]))
    print(f"all scored on the same {scored_on(results)}")
