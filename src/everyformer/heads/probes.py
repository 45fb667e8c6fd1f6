"""What a learned query gathers of an input, and what is said of hidden patches beside the answer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, FeedForward, Head, Mixer, Norm
from everyformer.heads.pools import Pool
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, unpack


@part("heads")
class ProbePool(Pool):
    """A learned token attends to all others, then y + feedforward(norm(y)) (Zhai et al., Scaling ViT, 2022, section 3.2).

    `mixer` is a cross-attention with `memory="pool"`.
    """

    def __init__(self, width: int, *, mixer: Spec[Mixer], feedforward: Spec[FeedForward], norm: Spec[Norm]) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, width) * width**-0.5)
        self.mixer: Any = self.make("mixer", mixer, width)
        self.feedforward: Any = self.make("feedforward", feedforward, width)
        self.norm: Any = self.make("norm", norm, width)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """What the probe gathers from each sequence."""
        tokens = unpack(tokens) if tokens.lengths is not None else tokens
        probe = Tokens(self.probe.expand(tokens.batch, -1, -1))
        gathered = self.mixer(probe, Context(memory={"pool": tokens}))
        update = self.feedforward(Tokens(self.norm(gathered)))
        return (gathered + update)[:, 0]


@part("heads")
class WordsBeside(Head):
    """The answer of `head`; and, where an objective asks for notes, logits of a visual word for each patch as 'words'.

    Those come from a shallow `decoder` on all tokens (Chen et al., 2023, section 3.1), which use does not run.
    """

    def __init__(self, width: int, *, head: Spec[Head], decoder: Spec[Backbone], words: int) -> None:
        super().__init__()
        self.head: Any = self.make("head", head, width)
        self.decoder: Any = self.make("decoder", decoder, width)
        self.words = nn.Linear(width, words)

    @property
    def leads(self) -> int:  # type: ignore[override]
        """As many leading tokens as the head asks for."""
        return self.head.leads

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tensor:
        """The answer of the head."""
        if context is not None and context.notes is not None:
            context.notes["words"] = self.words(self.decoder(tokens, context).values[:, tokens.prefix :])
        return self.head(tokens, context)
