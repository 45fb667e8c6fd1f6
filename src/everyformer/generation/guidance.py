"""Classifier-free guidance for text: a step away from what the model would say without the prompt."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.context import Cache, Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Change, Decoding
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Greedy, Hypothesis, Strategy, Stream
from everyformer.models import Model
from everyformer.registry import method, part
from everyformer.specs import Spec, spec


class Guide(Change):
    """log p(. | without) + scale (log p(. | prompt) - log p(. | without))."""

    def __init__(self, beside: Decoding, scale: float) -> None:
        self.beside: Decoding = beside
        self.scale = scale

    def __call__(
        self, decoding: Decoding, tokens: Int[Tensor, "B M"] | None, logits: Float[Tensor, "B M V"]
    ) -> Float[Tensor, "B M V"]:
        """The model twice, after the prompt and after what stands in its place."""
        other = self.beside.start()[:, None] if tokens is None else self.beside.feed(tokens)
        return torch.lerp(other.log_softmax(-1), logits.log_softmax(-1), self.scale)


@part("generation")
class Guided(Strategy):
    """A strategy under classifier-free guidance (Sanchez et al., 2023, equation 7): its tokens lean towards the prompt.

    `scale` 1 is the strategy alone, above 1 leans further. `without` is what stands in the place of each prompt where
    it is left out, or a prompt to lean away from (equation 8); None: the last token of each prompt.
    """

    def __init__(
        self,
        *,
        scale: float = 1.5,
        without: tuple[int, ...] | None = None,
        strategy: Spec[Strategy] = spec(Greedy),  # noqa: B008
    ) -> None:
        super().__init__()
        if scale <= 0:
            raise BadInput(f"scale is {scale}; give more than 0: 1 is the model alone, above 1 leans to the prompt")
        if without is not None and not without:
            raise BadInput("without is empty; give at least one token, or None for the last one of each prompt")
        self.scale, self.without = scale, without
        self.strategy: Strategy = self.make("strategy", strategy)

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """What the strategy makes of the guided logits."""
        if not isinstance(decoding.model, Model):
            raise DoesNotFit("guidance leaves the prompt out, and a target without its source has none", "strategy")
        ids, cache = decoding.ids[:, -1:], decoding.context.cache
        if self.without is not None:
            ids = torch.tensor(self.without, device=ids.device).expand(len(ids), -1)
        context = Context(cache=None if cache is None else Cache(cache.policy, cache.storage))
        decoding.changes.append(Guide(Decoding(decoding.model, context, ids), self.scale))
        return self.strategy(decoding, ends, max_tokens, stream)


@method(
    "text-guidance",
    title="Stay on Topic with Classifier-Free Guidance",
    authors="Sanchez et al.",
    year=2023,
    arxiv="2306.17806",
    idea="Say what the prompt makes likelier: go further from what the model would say without it.",
)
def guidance(*, scale: float = 1.5, without: tuple[int, ...] | None = None) -> Guided:
    """The strategy, for `generate(model, ..., strategy=guidance())`: see `Guided`."""
    return Guided(scale=scale, without=without)
