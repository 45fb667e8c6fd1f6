"""Transformers of discrete choices, which can be written down as a program (Friedman et al., Learning Transformer Programs,
2023, section 3).

The stream holds variables side by side: categorical ones of `size` directions each, one of which is 1, and after all of
them the numbers, of one direction each. Each layer reads the variables so far and writes new ones; nothing is summed.
While it trains, each choice is a sample that gradients pass (Jang et al., Gumbel-Softmax, 2017); in use it is the best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.backbones import Block, Encoder
from everyformer.context import Context
from everyformer.contracts import Embedding, FeedForward, Mixer
from everyformer.designs import Design
from everyformer.embeddings.checks import check_ids
from everyformer.errors import BadInput
from everyformer.heads import TokenHead
from everyformer.models import Model
from everyformer.norms import Identity, PreNorm
from everyformer.registry import part
from everyformer.specs import spec
from everyformer.tokens import Tokens

_NEVER = 1e-20
"""How much a key fits that does not: its logarithm is finite."""


class Sampler(nn.Module):
    """One of several by their scores: a Gumbel-softmax sample at `temperature` in training, the best in use."""

    temperature: float = 1.0

    def forward(self, scores: Float[Tensor, "... S"]) -> Float[Tensor, "... S"]:
        """Shares of the last axis; one of them is 1 and the others 0 in use."""
        if self.training:
            return F.gumbel_softmax(scores, self.temperature)
        return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)


class Choice(nn.Module):
    """Choices that are learned: the last axis of `shape` is what each is made among."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.randn(shape) / shape[-1] ** 0.5)
        self.sample = Sampler()

    def forward(self, batch: int) -> Tensor:
        """Shares of the options for each sequence of a batch, drawn for each by itself."""
        return self.sample(self.scores.expand(batch, *self.scores.shape))

    def taken(self) -> Int[Tensor, "..."]:
        """The numbers of the options that are chosen in use."""
        return self.scores.argmax(-1)


def anneal(model: nn.Module, temperature: float) -> None:
    """Set the temperature of every sample; published is a fall from 3 to 0.01 by equal factors."""
    for module in model.modules():
        if isinstance(module, Sampler):
            module.temperature = temperature


@dataclass(frozen=True)
class Variables:
    """The stream of a model, and how much of it a layer finds: `categories` of `size` values, then `numbers`."""

    size: int
    categories: int
    numbers: int
    """In the whole model."""
    found: int
    """Categorical variables that are there before the layer."""
    counted: int
    """Numbers that are there."""

    def read(self, values: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B N R S"], Float[Tensor, "B N M"]]:
        """The variables that are there, and the numbers."""
        first = self.size * self.categories
        variables = values[..., : self.size * self.found].unflatten(-1, (self.found, self.size))
        return variables, values[..., first : first + self.counted]

    def write(self, categories: Float[Tensor, "B N R S"], numbers: Float[Tensor, "B N M"]) -> Float[Tensor, "B N D"]:
        """New variables in the places after those that are there, zeros elsewhere."""
        new, count = categories.shape[2], numbers.shape[2]
        before, between = self.size * self.found, self.size * (self.categories - self.found - new)
        update = F.pad(categories.flatten(2), (before, between + self.counted))
        return F.pad(torch.cat((update, numbers), -1), (0, self.numbers - self.counted - count))


@part("interpret")
class OneHot(Embedding):
    """The token and its position as categorical variables, and the number 1 (section 3.1)."""

    def __init__(self, width: int, *, vocabulary: int, length: int, categories: int) -> None:
        super().__init__()
        self.width, self.vocabulary, self.length, self.categories = width, vocabulary, length, categories
        self.size = max(vocabulary, length)

    def forward(self, inputs: Int[Tensor, "B N"], context: Context | None = None) -> Tokens:  # type: ignore[override]
        """Tokens of ids."""
        check_ids(inputs, self.vocabulary, "token", "the vocabulary", "build with a larger one")
        if inputs.shape[1] > self.length:
            raise BadInput(f"a sequence of {inputs.shape[1]} tokens, built for {self.length}; build with length=")
        places = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)
        both = F.one_hot(torch.stack((inputs, places), -1), self.size).flatten(2)
        one = F.pad(both, (0, self.size * (self.categories - 2) + 1), value=0)
        one[..., -1] = 1
        return Tokens(F.pad(one, (0, self.width - one.shape[-1])).float())

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Ids of zeros."""
        return {"inputs": torch.zeros(batch, self.length, dtype=torch.long)}


@part("interpret")
class DiscreteAttention(Mixer):
    """Heads that each read one variable as key, one as query and one as value (section 3.2).

    A key fits a query if its value is the one that the query's value looks for. A categorical head copies the value of the
    nearest key that fits, the earlier of two and its own last, and of the first token where none does; a counting head adds up a number
    over all keys that fit.
    """

    def __init__(
        self,
        width: int,
        *,
        size: int,
        categories: int,
        numbers: int,
        found: int,
        counted: int,
        copying: int = 2,
        counting: int = 2,
    ) -> None:
        super().__init__()
        self.variables = Variables(size, categories, numbers, found, counted)
        self.copying, self.counting = copying, counting
        heads = copying + counting
        self.query, self.key = Choice(heads, found), Choice(heads, found)
        self.value, self.number = Choice(copying, found), Choice(counting, counted)
        self.wanted = Choice(heads, size, size)
        """For each head and query value the key value that it looks for."""
        self.nearest = Sampler()

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The new variables in their places."""
        there, numbers = self.variables.read(tokens.values)
        query, key, value = (
            torch.einsum("bnrs,bhr->bhns", there, choice(tokens.batch)) for choice in (self.query, self.key, self.value)
        )
        fits = query @ self.wanted(tokens.batch) @ key.mT
        copied = self.nearest(preferred(fits[:, : self.copying]) / self.variables.size**0.5) @ value
        summed = fits[:, self.copying :] @ torch.einsum("bnm,bhm->bhn", numbers, self.number(tokens.batch))[..., None]
        return self.variables.write(copied.transpose(1, 2), summed[..., 0].mT)


def preferred(fits: Float[Tensor, "B H N M"]) -> Float[Tensor, "B H N M"]:
    """Scores that are best for the nearest other key that fits, then for the token's own, then for the first.

    They are logarithms, so that in training a key is drawn as often as it fits, and never where it does not.
    """
    count = fits.shape[-1]
    place = torch.arange(count, device=fits.device)
    distance = (place[:, None] - place).abs()
    bias = torch.where(distance == 0, -2.0, (1 - distance) / count)
    none = (1 - fits.sum(-1, keepdim=True)).relu()
    return torch.cat((fits[..., :1] + none, fits[..., 1:]), -1).add(_NEVER).log() + bias


@part("interpret")
class Tables(FeedForward):
    """Feedforwards that each read two variables, or two numbers, and give a categorical variable (section 3.3).

    Whatever is inside, in use it is a table of the values that it reads.
    """

    def __init__(
        self,
        width: int,
        *,
        size: int,
        categories: int,
        numbers: int,
        found: int,
        counted: int,
        of_variables: int = 1,
        of_numbers: int = 1,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.variables = Variables(size, categories, numbers, found, counted)
        self.reads = Choice(of_variables, 2, found)
        self.counts = Choice(of_numbers, 2, counted)
        self.of_variables = nn.ModuleList(_inner(2 * size, hidden, size) for _ in range(of_variables))
        self.of_numbers = nn.ModuleList(_inner(2, hidden, size) for _ in range(of_numbers))
        self.sample = Sampler()

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The new variables in their places."""
        there, numbers = self.variables.read(tokens.values)
        pairs = torch.einsum("bnrs,btcr->tbncs", there, self.reads(tokens.batch)).flatten(3)
        counts = torch.einsum("bnm,btcm->tbnc", numbers, self.counts(tokens.batch))
        said = [inner(x) for inner, x in zip(self.of_variables, pairs, strict=True)]
        said += [inner(x) for inner, x in zip(self.of_numbers, counts, strict=True)]
        return self.variables.write(self.sample(torch.stack(said, 2)), numbers[..., :0])


def _inner(takes: int, hidden: int, gives: int) -> nn.Module:
    return nn.Sequential(nn.Linear(takes, hidden), nn.ReLU(), nn.Linear(hidden, gives))


def discrete(
    *,
    vocabulary: int,
    length: int,
    classes: int,
    depth: int = 1,
    copying: int = 2,
    counting: int = 2,
    of_variables: int = 1,
    of_numbers: int = 1,
    hidden: int = 64,
) -> Design:
    """The design of a discrete transformer that says a class for each token; the first token begins the sequence."""
    size, new = max(vocabulary, length), copying + of_variables + of_numbers
    shape = {"size": size, "categories": 2 + depth * new, "numbers": 1 + depth * counting}
    blocks = []
    for layer in range(depth):
        found, counted = 2 + layer * new, 1 + layer * counting
        mixer = spec(DiscreteAttention, found=found, counted=counted, copying=copying, counting=counting, **shape)
        tables = spec(
            Tables,
            found=found + copying,
            counted=counted + counting,
            of_variables=of_variables,
            of_numbers=of_numbers,
            hidden=hidden,
            **shape,
        )
        blocks.append(spec(Block, mixer=mixer, feedforward=tables, residual=spec(PreNorm, norm=spec(Identity))))
    return Design(
        spec(
            Model,
            width=size * shape["categories"] + shape["numbers"],
            embedding=spec(OneHot, vocabulary=vocabulary, length=length, categories=shape["categories"]),
            backbone=spec(Encoder, blocks=tuple(blocks)),
            head=spec(TokenHead, vocabulary=classes, bias=True),
        ),
        name="transformer-programs",
    )
