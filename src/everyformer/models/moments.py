"""What each piece of a transformer makes of the mean, the variance and the correlation of random tokens.

Of Kedia et al. (DeepScaleLM, 2024, section 3 and appendix A): for weights that are drawn anew, and numbers that are nearly
normal. The correlation is that of one channel between two tokens of a sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Moments:
    """Mean, variance and correlation between tokens."""

    mean: float = 0.0
    variance: float = 1.0
    correlation: float = 0.0

    @property
    def covariance(self) -> float:
        """Between one channel of two tokens."""
        return self.correlation * self.variance


def linear(given: Moments, inputs: int, weight: float) -> Moments:
    """W x, the weights of this variance, without bias."""
    square = given.variance + given.mean**2
    shared = given.covariance + given.mean**2
    return Moments(0.0, inputs * weight * square, shared / square)


def relu(given: Moments) -> Moments:
    """max(x, 0) of numbers of mean 0."""
    r, spread = given.correlation, given.variance
    variance = spread * (math.pi - 1) / (2 * math.pi)
    second = spread * (math.sqrt(1 - r * r) + r * (math.pi - math.acos(r))) / (2 * math.pi)
    return Moments(math.sqrt(spread / (2 * math.pi)), variance, (second - spread / (2 * math.pi)) / variance)


def dropout(given: Moments, rate: float) -> Moments:
    """Numbers left out at a `rate`, the others scaled up."""
    variance = (given.variance + rate * given.mean**2) / (1 - rate)
    return Moments(given.mean, variance, given.covariance / variance)


def feedforward(given: Moments, width: int, hidden: int, up: float, down: float, rate: float = 0.0) -> Moments:
    """W2 relu(W1 x), the weights of these variances, then dropout."""
    return dropout(linear(relu(linear(given, width, up)), hidden, down), rate)


def softmax(variance: float, correlation: float, count: int) -> Moments:
    """The weights of `count` keys by scores of this variance, correlated between the keys; many keys."""
    return Moments(1 / count, (math.exp((1 - correlation) * variance) - 1) / count**2)


def attention(given: Moments, width: int, value: float, output: float, rate: float = 0.0) -> Moments:
    """W_o (weights W_v x) of many tokens whose scores are small, then dropout: the mean of all, the same for each token."""
    mixed = Moments(given.mean, given.covariance, 1.0)
    return dropout(linear(linear(mixed, width, value), width, output), rate)


def added(trunk: Moments, update: Moments, share: float) -> Moments:
    """The trunk and an update by their shares of the variance: sqrt(1 - share) x + sqrt(share) f."""
    variance = (1 - share) * trunk.variance + share * update.variance
    return Moments(0.0, variance, ((1 - share) * trunk.covariance + share * update.covariance) / variance)
