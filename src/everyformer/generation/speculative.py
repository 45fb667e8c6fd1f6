"""Speculative decoding: a small model guesses ahead, and one pass of the large one accepts or corrects."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from everyformer.context import Cache, Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Decoding, cacheable, takes_padding
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Greedy, Hypothesis, Single, Strategy, Stream, mark, seen_by, take
from everyformer.models import Model
from everyformer.registry import part
from everyformer.specs import Spec, spec


@part("generation")
class Speculative(Strategy):
    """The same distribution as `choice` alone, from fewer passes (Leviathan et al., 2023, algorithm 1).

    `draft`, a decoder-only model of the same vocabulary, guesses `ahead` tokens at a time.
    """

    def __init__(self, *, draft: Model, ahead: int = 4, choice: Spec[Single] = spec(Greedy)) -> None:  # noqa: B008
        super().__init__()
        if ahead < 1:
            raise BadInput(f"ahead is {ahead}; give 1 or more")
        self.draft, self.ahead = draft.eval(), ahead
        self.choice: Single = self.make("choice", choice)

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sequence; each round streams what it accepted."""
        rows = list(range(len(decoding.ids)))
        found: list[list[int]] = [[] for _ in rows]
        logits = decoding.start()
        guess = self.beside(decoding, logits.shape[-1])
        seen = seen_by(decoding, logits) if self.choice.remembers else None
        last = self.choice.choose(logits, seen)
        new = last[:, None].tolist()
        while True:
            going = [i for i, row in enumerate(rows) if self.go_on(new[i], row, found[row], ends, stream, max_tokens)]
            if not going:
                return [[Hypothesis(tokens)] for tokens in found]
            if len(going) < len(rows):
                kept = torch.tensor(going, device=last.device)
                decoding.select(kept)
                guess.select(kept)
                rows, last = [rows[i] for i in going], last[kept]
                seen = None if seen is None else seen[kept]
            seen = mark(seen, last)
            left = max_tokens - max(len(found[row]) for row in rows)
            new, last, seen = self.round(decoding, guess, last, seen, min(self.ahead, left - 1))

    def go_on(
        self, new: list[int], row: int, found: list[int], ends: Ends, stream: Stream | None, max_tokens: int
    ) -> bool:
        """Add the tokens of a round to a sequence, up to its end; whether it goes on."""
        return not any(take(token, row, found, ends, stream) or len(found) == max_tokens for token in new)

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
        for each in (decoding, guess):
            cache = each.context.cache
            if cache is not None and not (cache.rewinds and takes_padding(each.model)):
                if cache.policy is not None:
                    raise DoesNotFit(
                        "guesses are taken back, and what this cache policy dropped for them cannot take tokens back",
                        "policy",
                    )
                each.context.cache = None
        return guess

    def round(
        self, decoding: Decoding, guess: Decoding, last: Int[Tensor, " B"], seen: Bool[Tensor, "B V"] | None, ahead: int
    ) -> tuple[list[list[int]], Int[Tensor, " B"], Bool[Tensor, "B V"] | None]:
        """The new tokens of each sequence, the last of them, and the tokens seen before it."""
        drafted, offered, marks = [last], [], [seen]
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
        new = [
            [*row[:count], token]
            for row, count, token in zip(tokens.tolist(), accepted.tolist(), following.tolist())
        ]  # fmt: skip
        return new, following, None if seen is None else torch.stack(marks, 1)[at, accepted]  # type: ignore[arg-type]

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
