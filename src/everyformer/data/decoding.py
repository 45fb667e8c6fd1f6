"""The `decoding` section of a recipe into a way of generating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from everyformer.errors import EveryformerError, UnknownName
from everyformer.specs import Spec, from_plain, signature, spec


@dataclass
class Decoding:
    """A strategy with its options, the most tokens that are generated, and what the cache keeps, and how."""

    strategy: Any
    max_tokens: int
    policy: Any = None
    storage: Any = None
    memories: Any = None
    pattern: str | None = None
    """What an answer must match."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """From plain values: `strategy` (the name of one in `generation`), `max_tokens`, and the strategy's own options.

        `policy`, `memories` and `storage` name what the cache keeps, of a source, and how, with their options: 'tova,keep=0.5', or a mapping with
        their `name`. `pattern` is a regular expression that answers must match, or 'json'. Sampling takes a `seed`; at the temperature 0 it takes the likeliest token, as 'greedy' does.
        For beam search `length_penalty` is the exponent of the length that a score is divided by.
        """
        import everyformer.generation as generation
        from everyformer.cache import MemoryPolicy, Policy
        from everyformer.columns import Storage

        given = dict(options)
        name, most = given.pop("strategy", "greedy"), given.pop("max_tokens", 128)
        held = {
            "policy": made_of(Policy, "decoding.policy", given.pop("policy", None)),
            "storage": made_of(Storage, "decoding.storage", given.pop("storage", None)),
            "memories": made_of(MemoryPolicy, "decoding.memories", given.pop("memories", None)),
        }
        pattern = given.pop("pattern", None)
        if not isinstance(most, int) or most < 1:
            raise EveryformerError(f"decoding.max_tokens is {most!r}; give a whole number, 1 or more")
        name, more = named(name, "decoding.strategy")
        given = {**more, **given}
        if name == "beam" and "length_penalty" in given:
            given["penalty"] = spec(generation.Power, exponent=given.pop("length_penalty"))
        seed = given.pop("seed", None) if name == "sample" else None
        if name == "sample" and given.get("temperature") == 0:
            name, given = "greedy", {}
        strategy = made_of(generation.Strategy, "decoding.strategy", {"name": name, **given})
        if seed is not None:
            strategy.generator = torch.Generator().manual_seed(seed)
        return cls(strategy, most, **held, pattern=generation.JSON if pattern == "json" else pattern)

    def for_pieces(self, pieces: Callable[[], tuple[str, ...]]) -> Any:
        """The strategy; where answers must match, with the text of each token."""
        from everyformer.generation import Constrained

        if self.pattern is None:
            return self.strategy
        chosen = Constrained(pattern=self.pattern, pieces=pieces())
        chosen.strategy = self.strategy
        return chosen

    def generate(
        self,
        model: nn.Module,
        inputs: Tensor,
        *,
        mask: Tensor | None = None,
        bos: int | Sequence[int] | None,
        eos: int | None,
        pad: int,
        max_tokens: int | None = None,
        pieces: Callable[[], tuple[str, ...]],
    ) -> list[list[int]]:
        """The tokens that the model says to each input; `pieces` gives the text of each."""
        from everyformer.generation import generate

        found: list[list[int]] = generate(
            model, inputs, mask=mask, bos=bos, eos=eos, pad=pad, max_tokens=max_tokens or self.max_tokens,
            strategy=self.for_pieces(pieces), policy=self.policy, storage=self.storage,
            memories=self.memories,
        )  # fmt: skip
        return found


SHARED = ("max_tokens", "memories", "pattern", "policy", "storage")
"""The options of any strategy."""


def changed(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with single ones changed; another strategy takes over only those that any has."""
    other = "strategy" in changes and changes["strategy"] != before.get("strategy")
    return {name: value for name, value in before.items() if not other or name in SHARED} | dict(changes)


def kinds(base: type) -> dict[str, type]:
    """The parts of the room `generation` of that base which can be made of plain options, by name in small letters."""
    from everyformer.registry import parts

    return {
        name.lower(): kind
        for name, kind in parts("generation").items()
        if issubclass(kind, base) and all(each.default is not each.empty for each in signature(kind).values())
    }


def named(given: Any, what: str) -> tuple[str, dict[str, Any]]:
    """A name and options: of 'tova,keep=0.5', or of a mapping with the `name`."""
    import yaml

    if isinstance(given, Mapping):
        options = dict(given)
        return str(options.pop("name", "")), options
    name, *rest = str(given).split(",")
    options = {}
    for each in rest:
        key, equals, value = each.partition("=")
        if not equals:
            raise EveryformerError(
                f"{what} is {given!r}; after the name give options as name=value, such as 'tova,keep=0.5'"
            )
        options[key.strip()] = yaml.safe_load(value)
    return name.strip(), options


def made_of(base: type, what: str, given: Any) -> Any:
    """The part that plain values name; None where none is given."""
    if given is None:
        return None
    name, options = named(given, what)
    known = kinds(base)
    if name not in known:
        raise UnknownName(what, name, known)
    return Spec(known[name], {key: from_plain(value) for key, value in options.items()}).build()
