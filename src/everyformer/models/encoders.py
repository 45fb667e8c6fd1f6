"""A trained decoder as an encoder."""

from __future__ import annotations

from typing import Any

from everyformer.contracts import Head
from everyformer.designs import Design, design_of
from everyformer.errors import DoesNotFit
from everyformer.masks import Both, Causal, Either, Full, Mask, Window
from everyformer.models.model import Model
from everyformer.registry import method
from everyformer.specs import Spec, signature


@method(
    "gemma-encoder",
    title="Adapting Decoder-Based Language Models for Diverse Encoder Downstream Tasks",
    authors="Suganthan et al.",
    year=2025,
    arxiv="2503.02656",
    idea="Drop the causal mask of a trained decoder, put a pool and a head on top and dropout inside, and fine-tune.",
)
def encoder_of(model: Model, head: Spec[Head] | None = None, *, dropout: float = 0.1, seed: int | None = None) -> Model:
    """A new model with the weights of a trained decoder, whose tokens see those after them as well, and another head.

    Windows reach as far to both sides. `dropout` is that of attention weights and of residual branches.
    """
    design = design_of(model)
    if not isinstance(model, Model) or not isinstance(design.get("backbone").get("mask"), Causal):
        raise DoesNotFit(f"a decoder-only model; given '{design.name}'", "backbone")
    for path, each in design.walk():
        for option, value in changed(path, each, dropout).items():
            design = design.set(f"{path}.{option}", value)
    made: Model = Design(design.set("head", head).spec, design.name).build(seed=seed)
    made.embedding.load_state_dict(model.embedding.state_dict())
    made.backbone.load_state_dict(model.backbone.state_dict())
    return made


def changed(path: str, each: Spec[Any], dropout: float) -> dict[str, Any]:
    """The options of a part of the backbone that are others in an encoder."""
    if path.partition(".")[0] != "backbone":
        return {}
    known = signature(each.part)
    options: dict[str, Any] = {"mask": both_ways(each.get("mask"))} if "mask" in known else {}
    return {**options, "dropout": dropout} if "dropout" in known else options


def both_ways(mask: Mask) -> Mask:
    """The mask without a direction: nothing is hidden for being later, and windows reach as far ahead as back."""
    match mask:
        case Causal():
            return Full()
        case Window(before, after):
            return Window(max(before, after), max(before, after))
        case Both(left, right):
            return both_ways(left) & both_ways(right)
        case Either(left, right):
            return both_ways(left) | both_ways(right)
        case _:
            return mask
