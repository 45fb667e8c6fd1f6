"""`evidence`: run again what shows that a system works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everyformer.cli.app import Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evidence")(show_evidence)


def show_evidence(
    name: Annotated[str, typer.Argument(help="A system.")],
    out: Annotated[Path, typer.Option(help="Where the JSON file goes.")] = Path("evidence"),
    page: Annotated[Path | None, typer.Option(help="An HTML page of the findings.")] = None,
    long: Annotated[bool, typer.Option("--long", help="Also what takes more than five minutes.")] = False,
    kind: Annotated[
        str | None, typer.Option(help="Only those that ask whether it 'learns', or try its 'claim'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Re-run a system's evidence and write evidence/NAME.json."""
    from everyformer.errors import BadInput
    from everyformer.evidence import gather
    from everyformer.report.findings import write_findings

    if page is not None and not page.parent.is_dir():
        raise BadInput(f"no folder '{page.parent}' to write the page '{page.name}' to")
    found = gather(name, out, long=long, kind=kind)
    if page is not None:
        write_findings(found, page)
    if as_json:
        return print_json(found)
    for each in found["results"]:
        print(f"{each['claim']}\n  {each['verdict']}: {each['finding']} ({each['seconds']:.0f} s)")
    print(f"kept in {out / name}.json" + (f", to be read in {page}" if page is not None else ""))
