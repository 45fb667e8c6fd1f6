"""Tokens that are steps into a distribution of each variate."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, NegativeBinomial, Normal, StudentT

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.registry import part
from everyformer.tokens import Tokens


class DistributionHead(Head):
    """Base: one linear map for each parameter of the distribution of a step, of series that are scaled alike."""

    parameters_of: ClassVar[tuple[str, ...]]
    """What the parameters are called."""

    def __init__(self, width: int, *, variates: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, variates) for _ in self.parameters_of)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B S C P"]:
        """The parameters, each where it may lie."""
        return torch.stack(self.within([project(tokens.values) for project in self.project]), -1)

    def within(self, given: list[Float[Tensor, "B S C"]]) -> list[Float[Tensor, "B S C"]]:
        """Any numbers as parameters."""
        raise NotImplementedError

    def distribution(
        self, parameters: Float[Tensor, "B S C P"], middle: Float[Tensor, "B 1 C"], scale: Float[Tensor, "B 1 C"]
    ) -> Distribution:
        """That of the values before they were scaled."""
        raise NotImplementedError


def square_plus(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(x + sqrt(x^2 + 4)) / 2, which is above 0 (Barron, 2021)."""
    return (x + (x.square() + 4).sqrt()) / 2


def _spread(x: Tensor) -> Tensor:
    return square_plus(x).clamp(min=torch.finfo(x.dtype).eps)


def _checked() -> bool:
    """Whether parameters and values are looked at, which a graph cannot."""
    return not torch.compiler.is_compiling()


@part("heads")
class StudentTHead(DistributionHead):
    """Student's t with more than two degrees of freedom, so that it has a variance."""

    parameters_of = ("df", "loc", "scale")

    def within(self, given: list[Float[Tensor, "B S C"]]) -> list[Float[Tensor, "B S C"]]:
        """Degrees of freedom, place and spread."""
        freedom, place, spread = given
        return [2 + square_plus(freedom), place, _spread(spread)]

    def distribution(
        self, parameters: Float[Tensor, "B S C P"], middle: Float[Tensor, "B 1 C"], scale: Float[Tensor, "B 1 C"]
    ) -> Distribution:
        """That of the values before they were scaled."""
        freedom, place, spread = parameters.unbind(-1)
        return StudentT(freedom, place * scale + middle, spread * scale, validate_args=_checked())


@part("heads")
class NormalHead(DistributionHead):
    """The normal distribution."""

    parameters_of = ("loc", "scale")

    def within(self, given: list[Float[Tensor, "B S C"]]) -> list[Float[Tensor, "B S C"]]:
        """Place and spread."""
        place, spread = given
        return [place, _spread(spread)]

    def distribution(
        self, parameters: Float[Tensor, "B S C P"], middle: Float[Tensor, "B 1 C"], scale: Float[Tensor, "B 1 C"]
    ) -> Distribution:
        """That of the values before they were scaled."""
        place, spread = parameters.unbind(-1)
        return Normal(place * scale + middle, spread * scale, validate_args=_checked())


@part("heads")
class NegativeBinomialHead(DistributionHead):
    """The negative binomial distribution, of counts, whose mean grows with the scale (Salinas et al., DeepAR, 2020, 3.1)."""

    parameters_of = ("total_count", "logits")

    def within(self, given: list[Float[Tensor, "B S C"]]) -> list[Float[Tensor, "B S C"]]:
        """The number of failures, and the logits of success."""
        count, logits = given
        return [square_plus(count), logits]

    def distribution(
        self, parameters: Float[Tensor, "B S C P"], middle: Float[Tensor, "B 1 C"], scale: Float[Tensor, "B 1 C"]
    ) -> Distribution:
        """That of the values before they were scaled."""
        count, logits = parameters.unbind(-1)
        return NegativeBinomial(total_count=count, logits=logits + scale.log(), validate_args=_checked())
