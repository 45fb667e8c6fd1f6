"""Constrained decoding: no token after which the text could not match a pattern any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Change, Decoding
from everyformer.generation.filters import RULED_OUT
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Greedy, Hypothesis, Strategy, Stream
from everyformer.registry import part
from everyformer.specs import Spec, spec

JSON = (
    r"(?(DEFINE)(?<string>\"(?:[^\"\\\x00-\x1f]|\\[\"\\/bfnrt]|\\u[0-9a-fA-F]{4})*\")"
    r"(?<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"(?<member>(?&string) ?: ?(?&value))"
    r"(?<value>(?&string)|(?&number)|true|false|null"
    r"|\[(?:(?&value)(?: ?, ?(?&value))*)?\]|\{(?:(?&member)(?: ?, ?(?&member))*)?\}))(?&value)"
)
"""A value of JSON (RFC 8259), with at most one blank between its tokens."""


class Pattern:
    """A regular expression, and the text of each token: which tokens may come after a text."""

    def __init__(self, pattern: str, pieces: Sequence[str]) -> None:
        try:
            import regex
        except ModuleNotFoundError as error:
            raise BadInput(
                "constrained decoding needs the library regex: pip install 'everyformer[grammar]'"
            ) from error
        try:
            self.pattern = regex.compile(pattern)
        except regex.error as error:
            raise BadInput(f"the pattern {pattern!r} is no regular expression: {error}") from error
        self.pieces = list(pieces)
        self.tree: dict[Any, Any] = {}
        for token, piece in enumerate(pieces):
            node = self.tree
            for character in piece:
                node = node.setdefault(character, {})
            if piece:
                node.setdefault(None, []).append(token)
        self.known: dict[str, list[int]] = {}

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say."""
        return "".join(self.pieces[token] for token in tokens)

    def begins(self, text: str) -> bool:
        """Whether some text that begins so matches."""
        return self.pattern.fullmatch(text, partial=True) is not None

    def whole(self, text: str) -> bool:
        """Whether the text matches."""
        return self.pattern.fullmatch(text) is not None

    def after(self, text: str) -> list[int]:
        """The tokens with which a text that begins well still does."""
        if text not in self.known:
            found: list[int] = []
            left = [(text, self.tree)]
            while left:
                said, node = left.pop()
                found += node.get(None, [])
                left += [(said + c, below) for c, below in node.items() if c is not None and self.begins(said + c)]
            self.known[text] = sorted(found)
        return self.known[text]


class Rule(Change):
    """What a pattern does not allow is ruled out; the end is allowed where the text matches."""

    def __init__(self, pattern: Pattern, ends: Ends) -> None:
        self.pattern, self.ends = pattern, ends

    def __call__(
        self, decoding: Decoding, tokens: Int[Tensor, "B M"] | None, logits: Float[Tensor, "B M V"]
    ) -> Float[Tensor, "B M V"]:
        """After texts that do not begin well, as a beam of no chance or a rejected guess may be, all is left as it is."""
        if len(self.pattern.pieces) != logits.shape[-1]:
            raise DoesNotFit(
                f"{len(self.pattern.pieces)} pieces for {logits.shape[-1]} tokens; give the text of each", "pieces"
            )
        out = torch.zeros_like(logits, dtype=torch.bool)
        for row in range(len(logits)):
            said = decoding.said(row)
            for place in range(logits.shape[1]):
                before = said[: len(said) - logits.shape[1] + 1 + place] if tokens is not None else said
                text = self.pattern.text(before)
                if self.pattern.begins(text) and not self.over(before, text):
                    out[row, place] = True
                    out[row, place, self.allowed(text)] = False
        return logits.masked_fill(out, RULED_OUT)

    def over(self, said: list[int], text: str) -> bool:
        """Whether an answer has ended: with an end token, or, where there is none, with its first match."""
        if self.ends.eos:
            return bool(set(said) & set(self.ends.eos))
        return bool(said) and self.pattern.whole(text)

    def allowed(self, text: str) -> list[int]:
        """The tokens that may come after a text, at least one."""
        found = self.pattern.after(text) + (list(self.ends.eos) if self.pattern.whole(text) else [])
        if not found:
            raise DoesNotFit(f"no token goes on from {text!r}, and it does not match yet; add tokens", "pieces")
        return found


def pieces_of(decode: Callable[[list[int]], str], size: int, before: int) -> tuple[str, ...]:
    """The text of each token of a vocabulary, as it stands after the token `before`; "" where that is no whole characters."""
    start = decode([before])
    told = (decode([before, token]) for token in range(size))
    texts = (each.removeprefix(start) if each.startswith(start) else "" for each in told)
    return tuple("" if "\ufffd" in text else text for text in texts)


@part("generation")
class Constrained(Strategy):
    """A strategy whose answers match the regular expression `pattern`, whatever the model finds likely.

    `pieces` is the text of each token, "" for those that are none; `JSON` is a pattern for values of JSON. Answers that
    are cut at the most tokens are beginnings of matches. Where no token ends an answer it ends as soon as it matches.
    Patterns are those of the library `regex`, recursion included.
    """

    def __init__(
        self,
        *,
        pattern: str,
        pieces: tuple[str, ...],
        strategy: Spec[Strategy] = spec(Greedy),  # noqa: B008
    ) -> None:
        super().__init__()
        self.pattern = Pattern(pattern, pieces)
        self.strategy: Strategy = self.make("strategy", strategy)

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """What the strategy makes of the tokens that are allowed."""
        if not ends.eos:
            ends = ends.or_where(lambda said: self.pattern.whole(self.pattern.text(said)))
        decoding.changes.append(Rule(self.pattern, ends))
        return self.strategy(decoding, ends, max_tokens, stream)
