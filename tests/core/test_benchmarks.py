"""Every benchmark can be started."""

import importlib
import pkgutil

import benchmarks
import pytest


@pytest.mark.parametrize("name", [each.name for each in pkgutil.iter_modules(benchmarks.__path__)])
def test_a_benchmark_is_imported_and_says_how_it_is_run(name: str) -> None:
    if name in ("encoder", "training"):
        pytest.importorskip("x_transformers", reason="a peer that only these need")
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__
    assert (
        not hasattr(module, "main") or f"benchmarks.{name}" in module.__doc__ or f"benchmarks/{name}" in module.__doc__
    )
