"""Speculative decoding: a small model guesses ahead, and one pass of the large one accepts or corrects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.context import Cache, Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Decoding, cacheable
from everyformer.generation.guessing import Guessing, take_back
from everyformer.generation.strategies import Greedy, Single, mark, seen_by
from everyformer.models import Model
from everyformer.registry import part
from everyformer.specs import Spec, spec


@dataclass
class Drafted:
    """The draft at the same place, and the tokens that each sequence holds, where those count."""

    guess: Decoding
    seen: Bool[Tensor, "B V"] | None

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep some of the sequences."""
        self.guess.select(rows)
        self.seen = None if self.seen is None else self.seen[rows]


@part("generation")
class Speculative(Guessing):
    """The same distribution as `choice` alone, from fewer passes (Leviathan et al., 2023, algorithm 1).

    `draft`, a decoder-only model of the same vocabulary, guesses `ahead` tokens at a time.
    """

    def __init__(self, *, draft: Model, ahead: int = 4, choice: Spec[Single] = spec(Greedy)) -> None:  # noqa: B008
        super().__init__()
        if ahead < 1:
            raise BadInput(f"ahead is {ahead}; give 1 or more")
        self.draft, self.ahead = draft.eval(), ahead
        self.choice: Single = self.make("choice", choice)

    def begin(self, decoding: Decoding, logits: Float[Tensor, "B V"]) -> tuple[Drafted, Int[Tensor, " B"]]:
        """The draft beside the model, and the first token of each sequence."""
        guess = self.beside(decoding, logits.shape[-1])
        seen = seen_by(decoding, logits) if self.choice.remembers else None
        return Drafted(guess, seen), self.choice.choose(logits, seen)

    def beside(self, decoding: Decoding, vocabulary: int) -> Decoding:
        """The draft at the same place; a cache that cannot take tokens back is given up."""
        context = Context(
            cache=Cache() if decoding.context.cache is not None and cacheable(self.draft.backbone) else None
        )
        guess = Decoding(self.draft, context, decoding.ids, decoding.mask)
        guessed = guess.start().shape[-1]
        if guessed != vocabulary:
            raise DoesNotFit(
                f"a draft of {guessed} tokens for a model of {vocabulary}; give both one vocabulary", "draft"
            )
        take_back(decoding)
        take_back(guess)
        return guess

    def round(
        self, decoding: Decoding, kept: Drafted, last: Int[Tensor, " B"], ahead: int
    ) -> tuple[list[list[int]], Int[Tensor, " B"]]:
        """What the draft says next, as far as the model may have said it, and one token of the model's own."""
        ahead, guess = min(self.ahead, ahead - 1), kept.guess
        drafted, offered, marks = [last], [], [mark(kept.seen, last)]
        for _ in range(ahead):
            offered.append(self.choice.probabilities(guess.step(drafted[-1]), marks[-1]))
            drafted.append(self.choice.draw(offered[-1]))
            marks.append(mark(marks[-1], drafted[-1]))
        guess.step(drafted[-1])
        logits = decoding.feed(torch.stack(drafted, 1))
        wanted = [self.choice.probabilities(logits[:, i], each) for i, each in enumerate(marks)]
        tokens = torch.stack(drafted, 1)[:, 1:]
        accepted = self.accept(tokens, offered, wanted)
        at = torch.arange(len(last), device=last.device)
        rest = torch.stack(wanted, 1)[at, accepted]
        missed = torch.stack((*offered, torch.zeros_like(rest)), 1)[at, accepted]
        more = (rest - missed).clamp(min=0)
        following = self.choice.draw(torch.where(more.sum(-1, keepdim=True) > 0, more, rest))
        for each in (decoding, guess):
            each.rewind(ahead + 1, accepted + 1)
        kept.seen = None if kept.seen is None else torch.stack(marks, 1)[at, accepted]  # type: ignore[arg-type]
        new = [
            [*row[:count], token]
            for row, count, token in zip(tokens.tolist(), accepted.tolist(), following.tolist())
        ]  # fmt: skip
        return new, following

    def accept(
        self, tokens: Int[Tensor, "B A"], offered: list[Float[Tensor, "B V"]], wanted: list[Float[Tensor, "B V"]]
    ) -> Int[Tensor, " B"]:
        """How many guesses of each sequence stand: each with probability min(1, wanted / offered)."""
        kept = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        going = torch.ones_like(kept, dtype=torch.bool)
        for guessed, q, p in zip(tokens.T[..., None], offered, wanted):
            chance = torch.rand(len(tokens), device=q.device, generator=self.choice.generator)
            going = going & (chance * q.gather(1, guessed)[:, 0] < p.gather(1, guessed)[:, 0])
            kept = kept + going
        return kept
