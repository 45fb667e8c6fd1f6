"""When a sequence has ended: an end token, or a sequence of tokens or a string that stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from everyformer.errors import BadInput


@dataclass(frozen=True)
class StopText:
    """Stops a sequence as soon as its text holds `text`, wherever the borders of its tokens lie."""

    text: str
    decode: Callable[[list[int]], str]
    """New tokens into text."""

    def __call__(self, tokens: list[int]) -> bool:
        """Whether the new `tokens` hold the string; only as many are decoded as it can reach back over."""
        tail = len(self.text) + 2
        while tail < len(tokens) and len(self.decode(tokens[1 - tail : -1])) < len(self.text):
            tail *= 2
        return self.text in self.decode(tokens[-tail:])


EMPTY = "an empty stop would end every sequence at once; leave it out"
Stop = StopText | Sequence[int]
"""A string with the function that decodes, or a sequence of token ids."""


class Ends:
    """What ends a sequence: one of the tokens `eos`, which is left out of the result, or a stop, which stays."""

    def __init__(self, eos: int | Iterable[int] | None, stop: Iterable[Stop]) -> None:
        self.eos: tuple[int, ...] = () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)
        self.texts: list[Callable[[list[int]], bool]] = []
        self.tokens: list[list[int]] = []
        for each in stop:
            if isinstance(each, str):
                raise BadInput(f"the stop {each!r} is a string; give StopText({each!r}, decode) with a decode function")
            if isinstance(each, StopText):
                if not each.text:
                    raise BadInput(EMPTY)
                self.texts.append(each)
            else:
                self.tokens.append(list(each))
        if not all(self.tokens):
            raise BadInput(EMPTY)

    def or_where(self, stopped: Callable[[list[int]], bool]) -> Ends:
        """These, and where `stopped` says so of the new tokens."""
        made = Ends(self.eos, self.tokens)
        made.texts = [*self.texts, stopped]
        return made

    @property
    def stops(self) -> bool:
        """Whether there is any stop beside the end tokens."""
        return bool(self.texts or self.tokens)

    def stopped(self, tokens: list[int]) -> bool:
        """Whether the new `tokens` of a sequence end with a stop."""
        return any(tokens[-len(each) :] == each for each in self.tokens) or any(each(tokens) for each in self.texts)
