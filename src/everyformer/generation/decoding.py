"""A batch in the middle of generation, with a cache or without."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Mixer
from everyformer.errors import DoesNotFit
from everyformer.masks import Mask
from everyformer.models.model import Root
from everyformer.tokens import Tokens


class Change:
    """Base of what makes other logits of the model's, pass by pass: guidance, a grammar."""

    beside: Decoding | None = None
    """Another decoding that goes through the same tokens."""

    def __call__(
        self, decoding: Decoding, tokens: Int[Tensor, "B M"] | None, logits: Float[Tensor, "B M V"]
    ) -> Float[Tensor, "B M V"]:
        """The logits after each of `tokens`, which `decoding` holds by now; None: of the first new token, as M = 1."""
        raise NotImplementedError


@dataclass
class Decoding:
    """The model, what it has seen, and the next token's logits."""

    model: Root
    context: Context
    """With a cache, each step sees the new token alone; without one, all tokens again."""
    ids: Int[Tensor, "B N"]
    """All tokens so far, the prompts padded on the left."""
    mask: Bool[Tensor, "B N"] | None = None
    """True where a token is real; None where all are."""
    held: int = 0
    """How many of the first of `ids` the cache has seen already."""
    changes: list[Change] = field(default_factory=list)
    """What is done to the logits, in this order."""
    prompt: int = field(init=False)
    """How many of `ids` were given."""
    states: Tokens = field(init=False)
    """What the head was given in the last pass."""

    def __post_init__(self) -> None:
        self.prompt = self.ids.shape[1]

    def start(self) -> Float[Tensor, "B V"]:
        """Logits of the first new token."""
        mask = None if self.mask is None else self.mask[:, self.held :]
        return self._changed(None, self._logits(self.ids[:, self.held :], mask, last=True))[:, -1]

    def step(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Logits of the token after `tokens`, one for each sequence."""
        return self.feed(tokens[:, None])[:, -1]

    def feed(self, tokens: Int[Tensor, "B M"]) -> Float[Tensor, "B M V"]:
        """Logits of the token after each of `tokens`, several for each sequence."""
        count = tokens.shape[1]
        self.ids = torch.cat((self.ids, tokens), 1)
        if self.mask is not None:
            self.mask = torch.cat((self.mask, torch.ones_like(tokens, dtype=torch.bool)), 1)
        if self.context.cache is None:
            logits = self._logits(self.ids, self.mask, last=count == 1)[:, -count:]
        else:
            logits = self._logits(tokens, None, last=count == 1)
        return self._changed(tokens, logits)

    def said(self, row: int) -> list[int]:
        """The new tokens of a sequence."""
        new = self.ids[row, self.prompt :]
        return (new if self.mask is None else new[self.mask[row, self.prompt :]]).tolist()

    def rewind(self, fed: int, kept: Int[Tensor, " B"]) -> None:
        """Of the last `fed` tokens of each sequence forget all but the first `kept`, at least one."""
        longest = int(kept.max())
        count = self.ids.shape[1] - fed + longest
        real = torch.arange(longest, device=kept.device) < kept[:, None]
        gaps = not bool(real.all())
        if gaps and self.mask is None:
            self.mask = torch.ones_like(self.ids, dtype=torch.bool)
        self.ids = self.ids[:, :count]
        if self.mask is not None:
            self.mask = torch.cat((self.mask[:, : count - longest], real), 1)
        if self.context.cache is not None:
            self.context.cache.rewind(fed - longest, real if gaps else None)
        for other in self.beside:
            other.rewind(fed, kept)

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Keep, repeat and reorder sequences."""
        self.context.select(rows)
        self._pick(rows)
        for other in self.beside:
            other.select(rows)

    def shuffle(self, rows: Int[Tensor, " B"]) -> None:
        """Reorder sequences among those with the same source and padding, whose memory can stay."""
        if self.context.cache is not None:
            self.context.cache.shuffle(rows)
        self._pick(rows)
        for other in self.beside:
            other.shuffle(rows)

    @property
    def beside(self) -> list[Decoding]:
        """The decodings that go through the same tokens."""
        return [each.beside for each in self.changes if each.beside is not None]

    def _changed(self, tokens: Tensor | None, logits: Tensor) -> Tensor:
        for change in self.changes:
            logits = change(self, tokens, logits)
        return logits

    def _pick(self, rows: Tensor) -> None:
        self.ids = self.ids.index_select(0, rows)
        self.mask = None if self.mask is None else self.mask.index_select(0, rows)

    def _logits(self, ids: Tensor, mask: Tensor | None, *, last: bool) -> Tensor:
        fields = {} if mask is None else {"mask": mask}
        self.states = self.model.states(ids, self.context, **fields)
        logits = self.model.speak(self.states, self.context, last=last)
        if logits.ndim != 3:
            raise DoesNotFit(f"generation needs logits for each token; the head gives {tuple(logits.shape)}", "head")
        return logits.float()


def cacheable(backbone: nn.Module) -> bool:
    """Whether token by token gives what all at once gives: every mixer and body is incremental, no mask looks ahead."""
    if not all(m.incremental for m in backbone.modules() if isinstance(m, Backbone)):
        return False
    if not all("incremental" in m.capabilities for m in backbone.modules() if isinstance(m, Mixer)):
        return False
    mask = getattr(backbone, "mask", None)
    return not isinstance(mask, Mask) or not _looks_ahead(mask)


def _looks_ahead(mask: Mask, horizon: int = 64) -> bool:
    places = torch.arange(horizon)
    return bool(mask.allows(places[:, None], places[None]).triu(1).any())


def takes_padding(backbone: nn.Module) -> bool:
    """Whether sequences of different lengths can share a cache."""
    return all("padding" in m.capabilities for m in backbone.modules() if isinstance(m, Mixer))
