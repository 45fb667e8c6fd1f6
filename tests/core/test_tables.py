"""The tables in `docs/` are those that the registry makes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.page import page

from everyformer.report.tables import families_page, parts_page, systems_page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_parts_is_up_to_date() -> None:
    assert (DOCS / "parts.md").read_text() == parts_page()


def test_the_page_of_systems_is_up_to_date() -> None:
    assert (DOCS / "systems.md").read_text() == systems_page()


def test_the_page_of_checkpoints_is_up_to_date() -> None:
    assert (DOCS / "families.md").read_text() == families_page()


def test_the_page_of_benchmarks_is_up_to_date() -> None:
    assert (DOCS / "performance.md").read_text() == page()
