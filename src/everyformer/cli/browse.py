"""`list` and `show`: what there is."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from everyformer.cli.app import print_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("list")(list_)
    app.command()(show)


def list_(
    room: Annotated[str | None, typer.Option(help="List the parts of this room instead of systems.")] = None,
    recipes: Annotated[bool, typer.Option("--recipes", help="List the recipes instead of systems.")] = False,
    as_json: Json = False,
) -> None:
    """List the systems, the parts of a room, or the recipes."""
    rows = _recipes() if recipes else _parts(room) if room else _systems()
    if as_json:
        return print_json(rows)
    columns = [name for name in rows[0] if name != "sizes"]  # `show` has them
    table(columns, [[_cell(row[name], "\n" if name == "tasks" else ", ") for name in columns] for row in rows])


def _cell(value: Any, between: str) -> str:
    return between.join(map(str, value)) if isinstance(value, (list, tuple)) else "" if value is None else str(value)


def _systems() -> list[dict[str, Any]]:
    from everyformer.registry import systems

    return [
        {"name": s.name, "year": s.year, "tasks": list(s.tasks), "sizes": list(s.sizes), "idea": s.idea}
        for s in systems().values()
    ]


def _parts(room: str) -> list[dict[str, Any]]:
    from everyformer.registry import parts

    rows = []
    for name, cls in parts(room).items():
        summary = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        options = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
        rows.append({"name": name, "what": summary, "options": options})
    return rows


def _recipes() -> list[dict[str, Any]]:
    from everyformer.recipe import known_recipes, load_recipe

    found = [(name, load_recipe(name)) for name in known_recipes()]
    return [{"name": name, "task": r.task, "system": r.design.get("system")} for name, r in found]


def show(
    name: Annotated[str, typer.Argument(help="A system (see `everyformer list`).")],
    options: Annotated[list[str] | None, typer.Argument(help="size=tiny classes=10 ...")] = None,
    as_json: Json = False,
) -> None:
    """Show a system: paper, idea, its tree of parts with parameters and FLOPs, its evidence."""
    from everyformer import design
    from everyformer.costs import flops, on_meta, parameters
    from everyformer.evidence import kept
    from everyformer.registry import find_system
    from everyformer.specs import to_plain

    system = find_system(name)
    chosen = design(name, **_options(options or []))
    shown = kept(name)
    if as_json:
        model = on_meta(chosen)
        return print_json(
            {
                "name": name, "title": system.title, "authors": system.authors, "year": system.year,
                "arxiv": system.arxiv, "idea": system.idea, "tasks": list(system.tasks), "sizes": system.sizes,
                "design": to_plain(chosen.spec), "parameters": parameters(model), "flops": flops(model).get(""),
                "evidence": shown,
            }
        )  # fmt: skip
    paper = f"{system.authors} ({system.year}), {system.title}" + (f", arXiv {system.arxiv}" if system.arxiv else "")
    print(f"{name}: {system.idea}\n{paper}")
    print(
        f"sizes: {', '.join(system.sizes) or 'one'}; options: {', '.join(inspect.signature(system.make).parameters)}\n"
    )
    print(chosen)
    for each in (shown or {}).get("results", []):
        print(f"\n{each['claim']}\n  {each['verdict']}: {each['finding']}")


def _options(given: list[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from everyformer.errors import EveryformerError

    for each in given:
        if "=" not in each:
            raise EveryformerError(f"'{each}' is not an option; write name=value, such as size=tiny")
    return dict(OmegaConf.to_container(OmegaConf.from_dotlist(given)))  # type: ignore[arg-type]
