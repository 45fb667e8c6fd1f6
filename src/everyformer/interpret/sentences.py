"""One vector for a sentence: what, added inside a trained decoder, makes it say that sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.generation import generate
from everyformer.generation.generate import evaluating
from everyformer.interpret.taps import intervene
from everyformer.models import Model
from everyformer.registry import method


@dataclass(frozen=True)
class Sentences:
    """A vector z for each sentence, and where W z is added to every token."""

    vectors: Float[Tensor, "B R"]
    lift: Float[Tensor, "D R"]
    """W; the identity where the vectors are as wide as the model."""
    places: tuple[str, ...]
    start: int
    """The token that each sentence is said after."""

    @contextmanager
    def within(self, model: Model) -> Iterator[None]:
        """The model with the vectors added, for batches of as many sequences."""
        added = (self.vectors @ self.lift.T)[:, None]
        with intervene(model, dict.fromkeys(self.places, lambda x: x + added)):
            yield

    def say(self, model: Model, count: int) -> list[list[int]]:
        """The first `count` tokens that greedy decoding makes of each vector."""
        with self.within(model):
            return generate(model, [[self.start]] * len(self.vectors), eos=None, pad=self.start, max_tokens=count)


@method(
    "sentence-representation-injection",
    title="Discovering Useful Sentence Representations from Large Pretrained Language Models",
    authors="Subramani and Suresh",
    year=2020,
    arxiv="2008.09049",
    idea="For each sentence there is a vector that makes a frozen decoder say it: find it by gradient descent.",
)
def find_sentences(
    model: Model,
    sentences: Int[Tensor, "B N"],
    *,
    start: int,
    width: int | None = None,
    places: Sequence[str] = ("backbone.blocks.*.input",),
    steps: int = 500,
    lr: float = 0.1,
    seed: int = 0,
) -> Sentences:
    """argmax over z of the sum of log p(token | tokens before, z) for each sentence, by Adam (section 3.2).

    `width` of z, by default the model's, is lifted to that by a fixed random map. `places` are the inputs of all blocks,
    or `embedding` and `head.input` too or alone (section 3.1). It ends when every token of every sentence is the likeliest
    one, that is when greedy decoding says them all, or after `steps`. No weight of the model is changed.
    """
    if sentences.ndim != 2 or not sentences.numel():
        raise BadInput(f"sentences are ids (B, N) of one length; given the shape {tuple(sentences.shape)}")
    if width is not None and width < 1:
        raise BadInput(f"width is {width}; give 1 or more")
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.cat((torch.full_like(sentences[:, :1], start), sentences[:, :-1]), 1)
    with evaluating(model):
        with torch.no_grad():
            like = model.features(inputs[:1, :1]).values
        whole, chosen = like.shape[-1], width or like.shape[-1]
        lift = torch.eye(whole) if width is None else torch.randn(whole, chosen, generator=generator) * chosen**-0.5
        vectors = torch.randn(len(sentences), chosen, generator=generator) * (2 / (1 + chosen)) ** 0.5
        vectors = vectors.to(like).requires_grad_()
        found = Sentences(vectors, lift.to(like), tuple(places), start)
        adam = torch.optim.Adam([vectors], lr=lr)
        for _ in range(steps):
            with found.within(model):
                logits = model(inputs)
            if bool((logits.argmax(-1) == sentences).all()):
                break
            loss = F.cross_entropy(logits.flatten(0, 1), sentences.flatten(), reduction="sum")
            (vectors.grad,) = torch.autograd.grad(loss, vectors)
            adam.step()
    return Sentences(vectors.detach(), found.lift, found.places, start)
