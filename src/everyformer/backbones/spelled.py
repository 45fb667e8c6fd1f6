"""Words spelled out: a body over words, between one that reads the letters of a word and one that says those of the next."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.backbones.chunks import Chunker, MarkedChunks, on_the_left
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.masks import Where
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Spelled(Backbone):
    """Each word of letters as one vector, a body over words, then the letters of the next word (Neitemeier et al., 2025,
    section 2).

    A word is its mark and its letters (`chunks` says where one begins). `encoder` sees the whole of one word: what it
    says at the mark, mapped to `inner_width`, is the word. `inner` sees the words before, behind a learned first vector;
    what it says is mapped back and added to the mark of the word to come, of which `decoder` then sees mark and letters.
    """

    incremental = False

    def __init__(
        self,
        width: int,
        *,
        encoder: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
        chunks: Spec[Chunker] = spec(MarkedChunks),  # noqa: B008
        inner: Spec[Backbone] = spec(Encoder),  # noqa: B008
        decoder: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
        inner_width: int | None = None,
    ) -> None:
        super().__init__()
        inner_width = inner_width or width
        self.encoder: Backbone = self.make("encoder", encoder, width)
        self.chunks: Chunker = self.make("chunks", chunks, width)
        self.inner: Backbone = self.make("inner", inner, inner_width)
        self.decoder: Backbone = self.make("decoder", decoder, width)
        self.widen = nn.Linear(width, inner_width, bias=False)
        self.narrow = nn.Linear(inner_width, width, bias=False)
        self.first = nn.Parameter(torch.randn(inner_width) * 0.02)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """What says the letter after each one; padding is moved to the right for the time."""
        within = Context() if context is None else Context(mask=context.mask, generator=context.generator)
        return on_the_left(tokens, lambda batch, real: self._run(batch, real, within))

    def _run(self, tokens: Tokens, real: Bool[Tensor, "B N"], context: Context) -> Float[Tensor, "B N D"]:
        begins = (self.chunks(tokens, real) >= 0.5) & real
        word = (begins.cumsum(1) - 1).clamp(min=0)
        marks = torch.where(begins, 0, 1).argsort(dim=1, stable=True)
        if not torch.compiler.is_compiling() and not marks.is_meta:
            marks = marks[:, : max(1, int(begins.sum(1).max()))]
        index = torch.arange(tokens.count, device=word.device)
        letters = tokens.replace(positions=(index - marks.gather(1, word))[..., None])
        own = Where(Same(word))
        read = self.encoder(letters, Context(mask=own, generator=context.generator)).values
        words = self.widen(read.gather(1, marks[..., None].expand(-1, -1, read.shape[-1])))
        before = torch.cat((self.first.expand(len(words), 1, -1), words[:, :-1]), 1)
        whole = torch.arange(marks.shape[1], device=marks.device) < begins.sum(1, keepdim=True)
        said = self.narrow(self.inner(Tokens(before, mask=whole), context.replace(lowered={})).values)
        said = torch.where(whole[..., None], said, 0)
        values = letters.values.scatter_add(1, marks[..., None].expand_as(said), said)
        return self.decoder(letters.update(values), context.replace(mask=context.mask & own, lowered={})).values


class Same:
    """Whether two places of a row belong to the same word."""

    def __init__(self, word: Int[Tensor, "B N"]) -> None:
        self.word = word

    def __call__(self, query: Tensor, key: Tensor) -> Tensor:
        """True where they do."""
        return self.of(query) == self.of(key)

    def of(self, places: Tensor) -> Tensor:
        """The word of each place of (1 or B, ...) places."""
        rows = places.expand(len(self.word), *places.shape[1:])
        return self.word.gather(1, rows.flatten(1)).view(rows.shape)
