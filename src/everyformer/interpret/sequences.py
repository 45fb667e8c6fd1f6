"""How much each token of source and prefix counts for each token that is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.errors import BadInput
from everyformer.interpret.attribution import (
    INTEGRATED,
    Attributor,
    Gradient,
    attribute,
    token_norms,
    token_sums,
)
from everyformer.models import Seq2Seq
from everyformer.registry import method

Step = Callable[[Float[Tensor, "B V"], int], Float[Tensor, " B"]]
"""Logits of the next token, and the token that came, into what is explained."""


def probability(logits: Float[Tensor, "B V"], token: int) -> Float[Tensor, " B"]:
    """The probability of the token."""
    return logits.softmax(-1)[:, token]


def log_probability(logits: Float[Tensor, "B V"], token: int) -> Float[Tensor, " B"]:
    """The logarithm of the probability of the token."""
    return logits.log_softmax(-1)[:, token]


def logit(logits: Float[Tensor, "B V"], token: int) -> Float[Tensor, " B"]:
    """The logit of the token."""
    return logits[:, token]


def entropy(logits: Float[Tensor, "B V"], token: int) -> Float[Tensor, " B"]:
    """The entropy of the next token, in nats, whichever came."""
    return torch.special.entr(logits.softmax(-1)).sum(-1)


@dataclass(frozen=True)
class Against:
    """Why this token and not `other`: the difference of their probabilities (Yin and Neubig, 2022)."""

    other: int

    def __call__(self, logits: Float[Tensor, "B V"], token: int) -> Float[Tensor, " B"]:
        """p(token) - p(other)."""
        share = logits.softmax(-1)
        return share[:, token] - share[:, self.other]


@dataclass(frozen=True)
class Attribution:
    """Rows are the tokens of the source, then those of the prefix; columns the generated tokens."""

    values: Float[Tensor, "R T"]
    source: int
    """How many rows are the source's; for a decoder these are the prompt."""
    scores: Float[Tensor, " T"]
    """What was explained."""

    def merged(self, rows: Sequence[Sequence[int]], columns: Sequence[Sequence[int]]) -> Float[Tensor, "r t"]:
        """Subwords put together into words, or tokens into spans: the sums over groups of rows and of columns."""
        for name, groups, count in (("rows", rows, self.values.shape[0]), ("columns", columns, self.values.shape[1])):
            outside = [i for group in groups for i in group if not 0 <= i < count]
            if outside:
                raise BadInput(f"{name} of a group: {outside}; there are {count}, counted from 0")
        summed = torch.stack([self.values[list(group)].sum(0) for group in rows])
        return torch.stack([summed[:, list(group)].sum(1) for group in columns], 1)

    def shares(self) -> Float[Tensor, "R T"]:
        """Sizes that sum to 1 in each column."""
        sizes = self.values.abs()
        return sizes / sizes.sum(0).clamp(min=1e-12)


@method(
    "inseq",
    title="Inseq: An Interpretability Toolkit for Sequence Generation Models",
    authors="Sarti et al.",
    year=2023,
    arxiv="2302.13942",
    idea="One interface says, for each generated token, how much every source and earlier token counted, by many methods.",
)
def attribute_generation(
    model: nn.Module,
    inputs: Int[Tensor, "1 N"],
    generated: Int[Tensor, " T"],
    *,
    bos: int | None = None,
    step: Step = probability,
    method: Attributor = INTEGRATED,
) -> Attribution:
    """Token by token, what counted for `step` of each of `generated`, which followed `inputs` (section 3).

    `bos` is what an encoder-decoder begins its target with; its place is the first row of the prefix.
    """
    paired = isinstance(model, Seq2Seq)
    if paired != (bos is not None):
        raise BadInput("an encoder-decoder needs bos=, what its target begins with; a decoder begins with the prompt")
    if inputs.dim() != 2 or len(inputs) != 1 or not generated.numel():
        raise BadInput(
            f"expected ids (1, N) and at least one generated token; given {tuple(inputs.shape)}, {generated.numel()}"
        )
    each = token_norms if isinstance(method, Gradient) else token_sums
    source = inputs.shape[1]
    begin = inputs.new_full((1, 1), bos) if bos is not None else inputs
    columns, scores = [], []
    for place, token in enumerate(generated.tolist()):
        seen = torch.cat((begin, generated[None, :place].to(inputs)), 1)
        batch = {"inputs": inputs, "target": seen} if paired else {"inputs": seen}

        def last(logits: Tensor, token: int = token) -> Tensor:
            return step(logits[:, -1], token)

        counted = torch.cat([each(values) for values in attribute(model, batch, last, method)])
        columns.append(torch.nn.functional.pad(counted, (0, len(generated) - 1 - place)))
        with torch.no_grad():
            scores.append(last(model(**batch))[0])
    return Attribution(torch.stack(columns, 1), source, torch.stack(scores))
