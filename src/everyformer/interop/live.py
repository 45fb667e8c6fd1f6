"""Models of Hugging Face transformers that stand in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from everyformer.designs import design_of
from everyformer.interop.config import Config
from everyformer.interop.export import to_folder
from everyformer.interop.family import Family, families, family_of
from everyformer.interop.weights import Pair, tensors


def as_saved(model: Any, named: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a live model under the names that its checkpoints have."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(model, named))


def family_of_live(model: Any) -> tuple[Family, Config]:
    """The family of a live model, and its config."""
    config = Config(
        {**model.config.to_dict(), "architectures": [type(model).__name__]}, as_saved(model, tensors(model))
    )
    return family_of(config), config


def pairs(ours: nn.Module, theirs: Any) -> list[Pair]:
    """The table between a model of ours and a live one of theirs."""
    family, config = family_of_live(theirs)
    return family.pairs(design_of(ours), family.top(config), config.names)


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs; a tensor unused or unfilled is an error."""
    family, config = family_of_live(model)
    top = family.top(config)
    made = family.design(config, top).build(device="meta")
    family.fill(made, top, as_saved(model, tensors(model)))
    return made.train(model.training)


def to_transformers(model: nn.Module, top: str | None = None) -> Any:
    """A model of theirs with our weights, of the class `top` or of the first that can hold our design."""
    import transformers

    families()
    with tempfile.TemporaryDirectory() as folder:
        config = to_folder(model, Path(folder), top=top)
        theirs = getattr(transformers, config["architectures"][0]).from_pretrained(folder)
    return theirs.train(model.training)
