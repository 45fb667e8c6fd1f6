"""What every test stands on: one thread, one seed, and torchvision's operators where its compiled part is missing.

With EVERYFORMER_SHAPES=1 every call of a part is checked against the shapes in its signature.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import benchmarks  # noqa: F401  it defines the operators that torchvision needs before timm and transformers import it
import pytest
import torch

if os.environ.get("EVERYFORMER_SHAPES"):
    from jaxtyping import install_import_hook

    rooms = ("backbones", "embeddings", "feedforward", "heads", "mixers", "norms", "positions", "reduction")
    install_import_hook([f"everyformer.{room}" for room in rooms], "beartype.beartype")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def a_method() -> Iterator[str]:
    """A registered method that keeps half of a model."""
    from everyformer import registry

    def halve(model: object, *, share: float = 0.5) -> object:
        return model

    halve.__module__ = "everyformer.compression.halving"
    registry.method("halving", title="Half", idea="Keep half.", year=2024, authors="Nobody")(halve)
    yield "halving"
    del registry._methods["halving"]
