"""What stands in for softmax: scores into weights, 0 where a query may not look."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.contracts import Normaliser
from everyformer.registry import part

Scores = Float[Tensor, "B H N M"]
Allowed = Bool[Tensor, "#B 1 #N M"] | None


class _Unweighted(Normaliser):
    """A normaliser for which a token of mass m is not m tokens."""

    capabilities = Normaliser.capabilities - {"weights"}


def _wide(scores: Tensor) -> Tensor:
    """Scores in a type in which small sums do not get lost."""
    return scores if scores.dtype == torch.float64 else scores.float()


def _least(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Scores with what is not allowed as far down as the type goes."""
    return scores if allowed is None else scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


def _kept(weights: Tensor, allowed: Tensor | None) -> Tensor:
    return weights if allowed is None else weights * allowed


def _seen(scores: Tensor, allowed: Tensor | None) -> Tensor | int:
    """How many keys each query may see; at least 1."""
    return scores.shape[-1] if allowed is None else allowed.sum(-1, keepdim=True).clamp(min=1)


@part("scores")
class Sparsemax(_Unweighted):
    """The nearest point of the simplex: small scores get exactly 0 (Martins and Astudillo, 2016, algorithm 1)."""

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """max(s - tau, 0), with tau such that the weights sum to 1."""
        kept = _least(_wide(scores), allowed)
        kept = kept - kept.amax(-1, keepdim=True)
        ordered = kept.sort(-1, descending=True)[0]
        rank = torch.arange(1, kept.shape[-1] + 1, device=kept.device)
        count = (1 + rank * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
        support = kept >= ordered.gather(-1, count - 1)
        tau = ((kept * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
        return _kept((kept - tau).clamp(min=0), allowed).to(scores.dtype)


@part("scores")
class Entmax(_Unweighted):
    """1.5-entmax, between softmax and sparsemax (Peters et al., 2019, algorithm 2)."""

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """max(s / 2 - tau, 0)^2, with tau such that the weights sum to 1."""
        kept = _least(_wide(scores), allowed) / 2
        kept = (kept - kept.amax(-1, keepdim=True)).clamp(min=-2)
        ordered = kept.detach().sort(-1, descending=True)[0]
        rank = torch.arange(1, kept.shape[-1] + 1, device=kept.device)
        tau = self._tau(ordered.cumsum(-1), ordered.square().cumsum(-1), rank)
        count = (tau <= ordered).sum(-1, keepdim=True)
        support = kept >= ordered.gather(-1, count - 1)
        inside = kept * support
        size = support.sum(-1, keepdim=True)
        tau = self._tau(inside.sum(-1, keepdim=True), inside.square().sum(-1, keepdim=True), size)
        return _kept(((kept - tau).clamp(min=0) * support).square(), allowed).to(scores.dtype)

    @staticmethod
    def _tau(total: Tensor, squares: Tensor, count: Tensor) -> Tensor:
        """The root of sum (x - tau)^2 = 1 over the `count` largest."""
        mean = total / count
        return mean - ((1 - (squares - count * mean.square())) / count).clamp(min=1e-12).sqrt()


@part("scores")
class Sigmoid(_Unweighted):
    """sigmoid(s - log n) for n keys to be seen: no key competes with another (Ramapuram et al., 2024, section 2)."""

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights; a row need not sum to 1."""
        seen = torch.as_tensor(_seen(scores, allowed), device=scores.device, dtype=scores.dtype)
        return _kept((scores - seen.log()).sigmoid(), allowed)


@part("scores")
class ReLU(_Unweighted):
    """max(s, 0)^power / n for n keys to be seen (Wortsman et al., 2023, section 3)."""

    def __init__(self, heads: int, width: int, *, power: int = 1) -> None:
        super().__init__(heads, width)
        self.power = power

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights; a row need not sum to 1."""
        return _kept(scores.relu() ** self.power / _seen(scores, allowed), allowed)


@part("scores")
class Power(_Unweighted):
    """s^p / (sum s^p + eps) for an even p, which a polynomial machine can follow (Zimerman et al., 2024, section 4).

    The scores are divided by the largest of their row first, which changes nothing but the range.
    """

    def __init__(self, heads: int, width: int, *, power: int = 2, eps: float = 1e-6) -> None:
        super().__init__(heads, width)
        if power < 2 or power % 2:
            raise ValueError(f"power is even and at least 2; given {power}")
        self.power, self.eps = power, eps

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights."""
        scores = _kept(scores, allowed)
        largest = scores.detach().abs().amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
        powers = (scores / largest) ** self.power
        return powers / (powers.sum(-1, keepdim=True) + self.eps)


@part("scores")
class Clipped(_Unweighted):
    """clip((zeta - gamma) softmax(s) + gamma, 0, 1) with gamma = -alpha / n, so that a head can give exactly 0.

    Bondarenko et al., Quantizable Transformers, 2023, section 4.1 and its scaling of gamma with the length.
    """

    def __init__(self, heads: int, width: int, *, zeta: float = 1.0, alpha: float = 3.2) -> None:
        super().__init__(heads, width)
        self.zeta, self.alpha = zeta, alpha

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights; a row need not sum to 1."""
        gamma = -self.alpha / _seen(scores, allowed)
        weights = _least(scores, allowed).softmax(-1)
        return _kept(((self.zeta - gamma) * weights + gamma).clamp(0, 1), allowed)


@part("scores")
class Sink(Normaliser):
    """exp(s_j) / (exp(b) + sum exp(s)): a learned b for each head takes what belongs to no key (gpt-oss, 2025).

    b = 0, not learned, is "softmax off by one" (Miller, 2023).
    """

    def __init__(self, heads: int, width: int, *, start: float = 0.0, learned: bool = True) -> None:
        super().__init__(heads, width)
        self.logit = nn.Parameter(torch.full((heads,), start), requires_grad=learned)

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights; a row sums to less than 1."""
        sink = self.logit.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:-1], 1)
        return _kept(torch.cat((_least(scores, allowed), sink), -1).softmax(-1)[..., :-1], allowed)


@part("scores")
class TopK(_Unweighted):
    """Softmax over the `count` largest scores of a query, 0 for the others (Zhao et al., Explicit Sparse Transformer, 2019)."""

    def __init__(self, heads: int, width: int, *, count: int = 4) -> None:
        super().__init__(heads, width)
        if count < 1:
            raise ValueError(f"each query sees at least one key; given count={count}")
        self.count = count

    def forward(self, scores: Scores, allowed: Allowed = None) -> Scores:
        """The weights; scores equal to the last of the largest are kept too."""
        wide = _least(_wide(scores), allowed)
        last = wide.topk(min(self.count, wide.shape[-1]), -1).values[..., -1:]
        return _kept(wide.masked_fill(wide < last, float("-inf")).softmax(-1), allowed).to(scores.dtype)
