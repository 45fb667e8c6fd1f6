"""What Hugging Face transformers calls the functions that both have."""

from __future__ import annotations

from typing import Any

from everyformer.errors import DoesNotFit, UnknownName

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
"""Their activations by our names; the first that has ours is what we write."""


def activation(name: str) -> str:
    """Our name of their activation."""
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def activation_of_theirs(name: str) -> str:
    """Their name of our activation."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def only(config: Any, **known: Any) -> None:
    """Refuse a configuration that differs from what the system can be."""
    for name, value in known.items():
        given = getattr(config, name)
        if given != value:
            raise DoesNotFit(f"{type(config).__name__}.{name} is {given!r}, and the system here has only {value!r}")
