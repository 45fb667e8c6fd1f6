"""What tasks of text share: a vocabulary learnt from the training part and saved with the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from everyformer.data.sources import Where
from everyformer.data.task import Task
from everyformer.data.vocabulary import SPECIALS, Vocabulary, fit_vocabulary, load_vocabulary


@dataclass(kw_only=True)
class WordedOptions(Where):
    """What the `data` section of every task of text has."""

    input: str | None = None
    """The column of the text."""
    tokens: Literal["characters", "bytes", "bpe"] = "bpe"
    vocabulary: int = 8192
    """Tokens that BPE has at most."""
    lowercase: bool = False
    """Lowercase the text first; BPE only."""


class Worded(Task):
    """Base of tasks of text."""

    specials: ClassVar[int] = len(SPECIALS)
    """How many of `SPECIALS` the vocabulary begins with."""
    vocabulary: Vocabulary

    def learn(self, texts: Sequence[str]) -> None:
        """Fit the vocabulary on the training texts."""
        options = self.options
        self.vocabulary = fit_vocabulary(
            options.tokens, texts, options.vocabulary, self.specials, options.lowercase
        )  # fmt: skip

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The vocabulary and what else was fitted, without texts."""
        self = super().load(folder)
        self.vocabulary = load_vocabulary(Path(folder), self.specials)
        return self

    def save(self, folder: str | Path) -> None:
        """Options, vocabulary and what else was fitted."""
        super().save(folder)
        self.vocabulary.save(Path(folder))
