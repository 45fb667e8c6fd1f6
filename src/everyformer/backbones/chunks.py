"""Hierarchies: an inner body that sees chunks of the tokens, cut where the tokens themselves say."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.auxiliary import Auxiliary
from everyformer.backbones.blocks import Block
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.errors import BadInput
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens, unpack


class Chunker(Part):
    """Base of what cuts: `forward(tokens, real)` gives how likely a chunk begins at each token; the first one's is 1.

    Sequences stand at the left of their rows.
    """

    def forward(self, tokens: Tokens, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """How likely a chunk begins at each token; it does where that is at least a half."""
        raise NotImplementedError


@part("backbones")
class DynamicChunks(Chunker):
    """A chunk begins where a token is unlike the one before it (Hwang et al., H-Net, 2025, equation 4).

    The ratio loss, of share `ratio`, draws the chunks to `length` tokens on average (equation 10).
    """

    def __init__(self, width: int, *, length: float = 6.0, ratio: float = 0.03) -> None:
        super().__init__()
        if length <= 1:
            raise ValueError(f"chunks have more than 1 token on average; given length={length}")
        self.length = length
        self.query, self.key = (nn.Linear(width, width, bias=False) for _ in range(2))
        for each in (self.query, self.key):
            each.own_init = True  # type: ignore[assignment]
            nn.init.eye_(each.weight)
        self.ratio = Auxiliary(ratio)

    def forward(self, tokens: Tokens, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """Half of 1 - the cosine between each token's query and the key of the one before."""
        values = tokens.values
        likeness = F.cosine_similarity(self.query(values[:, 1:]), self.key(values[:, :-1]), dim=-1)
        chance = F.pad(0.5 * (1 - likeness).clamp(0, 2), (1, 0), value=1.0)
        count = real.sum()
        drawn = ((chance >= 0.5) & real).sum() / count
        mean = (chance * real).sum() / count
        much = self.length
        self.ratio(much / (much - 1) * ((much - 1) * drawn * mean + (1 - drawn) * (1 - mean)))
        return chance


@part("backbones")
class FixedChunks(Chunker):
    """A chunk begins at every `length`-th token."""

    def __init__(self, width: int, *, length: int = 4) -> None:
        super().__init__()
        self.length = length

    def forward(self, tokens: Tokens, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """1 at the first token of each chunk, else 0."""
        values = tokens.values
        first = torch.arange(values.shape[1], device=values.device) % self.length == 0
        return first.to(values.dtype).expand(values.shape[:2])


@part("backbones")
class MarkedChunks(Chunker):
    """A chunk begins at every marked token."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """1 at marked tokens and at the first one, else 0."""
        if tokens.marked is None:
            raise BadInput("no token is marked; take an embedding that marks the first of each word (SpelledText)")
        first = torch.arange(tokens.count, device=tokens.values.device) == 0
        return (tokens.marked | first).to(tokens.values.dtype)


@part("backbones")
class Chunked(Backbone):
    """Encoder, the first tokens of chunks through an inner body, spread again, decoder (Hwang et al., H-Net, 2025, 2.1).

    What the inner body says of a chunk is smoothed by how sure its beginning is (equation 5) and added, for each token of
    the chunk, to a map of the encoder's output; the choice learns by a straight-through factor (equations 6 to 9). Of
    `inner_width` channels, those beyond the width are a learned vector on the way in, and dropped on the way out.
    """

    incremental = False

    def __init__(
        self,
        width: int,
        *,
        encoder: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
        chunks: Spec[Chunker] = spec(DynamicChunks),  # noqa: B008
        inner: Spec[Backbone] = spec(Encoder),  # noqa: B008
        decoder: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
        inner_width: int | None = None,
    ) -> None:
        super().__init__()
        inner_width = inner_width or width
        if inner_width < width:
            raise ValueError(f"the inner body is at least as wide as the outer ones, {width}; given {inner_width}")
        self.encoder: Backbone = self.make("encoder", encoder, width)
        self.chunks: Chunker = self.make("chunks", chunks, width)
        self.inner: Backbone = self.make("inner", inner, inner_width)
        self.decoder: Backbone = self.make("decoder", decoder, width)
        self.more = nn.Parameter(torch.zeros(inner_width - width)) if inner_width > width else None
        self.skip = nn.Linear(width, width)
        self.skip.own_init = True  # type: ignore[assignment]
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.skip.bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after all bodies; padding is moved to the right for the time."""
        within = context or Context()
        return on_the_left(tokens, lambda batch, real: self._run(batch, real, within))

    def _run(self, tokens: Tokens, real: Tensor, context: Context) -> Tensor:
        read = self.encoder(tokens, context.replace(lowered={}))
        chance = self.chunks(read, real)
        begins = (chance >= 0.5) & real
        order = torch.where(begins, 0, 1).argsort(dim=1, stable=True)
        if not torch.compiler.is_compiling() and not order.is_meta:
            order = order[:, : max(1, int(begins.sum(1).max()))]
        said = self._inner(read.values, begins, order, context)
        smooth = smoothed(said, chance.gather(1, order))
        of = (begins.cumsum(1) - 1).clamp(min=0)
        spread = smooth.gather(1, of[..., None].expand(-1, -1, smooth.shape[-1]))
        sure = torch.where(begins, chance, 1 - chance)
        sure = sure + (1 - sure).detach()
        merged = tokens.update(sure[..., None] * spread + self.skip(read.values))
        return self.decoder(merged, context.replace(lowered={})).values

    def _inner(self, values: Tensor, begins: Tensor, order: Tensor, context: Context) -> Tensor:
        width = values.shape[-1]
        chosen = values.gather(1, order[..., None].expand(-1, -1, width))
        if self.more is not None:
            chosen = torch.cat((chosen, self.more.expand(*chosen.shape[:2], -1)), -1)
        whole = torch.arange(order.shape[1], device=order.device) < begins.sum(1, keepdim=True)
        return self.inner(Tokens(chosen, mask=whole), context.replace(lowered={})).values[..., :width]


def on_the_left(tokens: Tokens, run: Callable[[Tokens, Tensor], Tensor]) -> Tokens:
    """The tokens with what `run` makes of them when every sequence stands at the left of its row.

    `run` is given a padded batch and which of its tokens are real (B, N), and gives values (B, N, E).
    """
    if tokens.mask is None and tokens.lengths is None:
        return tokens.update(run(tokens, tokens.values.new_ones(tokens.values.shape[:2]).bool()))
    if tokens.lengths is not None:
        batch = unpack(tokens)
        assert batch.mask is not None
        return tokens.update(run(batch, batch.mask)[batch.mask][None])
    assert tokens.mask is not None
    order = (~tokens.mask).long().argsort(dim=1, stable=True)[..., None]
    places = tokens.places.expand(tokens.batch, -1, -1)
    real = tokens.mask.gather(1, order[..., 0])
    batch = Tokens(
        tokens.values.gather(1, order.expand_as(tokens.values)),
        mask=real,
        positions=places.gather(1, order.expand_as(places)),
        marked=None if tokens.marked is None else tokens.marked.gather(1, order[..., 0]),
    )
    values = run(batch, real)
    return tokens.update(torch.zeros_like(values).scatter(1, order.expand_as(values), values))


def smoothed(values: Float[Tensor, "B M D"], sure: Float[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """z'_i = p_i z_i + (1 - p_i) z'_(i-1), from nothing, in as many steps as M has binary digits."""
    keep, answer = (1 - sure)[..., None], sure[..., None] * values
    step = 1
    while step < values.shape[1]:
        answer = answer + keep * F.pad(answer, (0, 0, step, 0))[:, :-step]
        keep = keep * F.pad(keep, (0, 0, step, 0))[:, :-step]
        step *= 2
    return answer
