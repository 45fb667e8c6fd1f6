"""The `decoding` section of a recipe into a way of generating."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from everyformer.errors import EveryformerError, UnknownName
from everyformer.specs import Spec, from_plain, spec

STRATEGIES = {"greedy": "Greedy", "beam": "Beam", "sample": "Sample"}


@dataclass
class Decoding:
    """A strategy with its options, and the most tokens that are generated."""

    strategy: Any
    max_tokens: int

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From plain values: `strategy` ('greedy', 'beam', 'sample'), `max_tokens`, and the strategy's own options.

        Sampling takes a `seed`; at the temperature 0 it takes the likeliest token, as 'greedy' does.
        For beam search `length_penalty` is the exponent of the length that a score is divided by.
        """
        import everyformer.generation as generation

        given = dict(options)
        name, most = given.pop("strategy", "greedy"), given.pop("max_tokens", 128)
        if name not in STRATEGIES:
            raise UnknownName("decoding.strategy", str(name), STRATEGIES)
        if not isinstance(most, int) or most < 1:
            raise EveryformerError(f"decoding.max_tokens is {most!r}; give a whole number, 1 or more")
        if name == "beam" and "length_penalty" in given:
            given["penalty"] = spec(generation.Power, exponent=given.pop("length_penalty"))
        seed = given.pop("seed", None) if name == "sample" else None
        if name == "sample" and given.get("temperature") == 0:
            name, given = "greedy", {}
        strategy = Spec(getattr(generation, STRATEGIES[name]), {k: from_plain(v) for k, v in given.items()}).build()
        if seed is not None:
            strategy.generator = torch.Generator().manual_seed(seed)
        return cls(strategy, most)

    def generate(
        self,
        model: nn.Module,
        inputs: Tensor,
        *,
        mask: Tensor | None = None,
        bos: int | None,
        eos: int | None,
        pad: int,
        max_tokens: int | None = None,
    ) -> list[list[int]]:
        """The tokens that the model says to each input."""
        from everyformer.generation import generate

        found: list[list[int]] = generate(
            model, inputs, mask=mask, bos=bos, eos=eos, pad=pad, max_tokens=max_tokens or self.max_tokens,
            strategy=self.strategy,
        )  # fmt: skip
        return found
