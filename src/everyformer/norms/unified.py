"""A norm whose statistics are those of the last batches, and in use a constant that folds into the map after it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.contracts import Norm
from everyformer.errors import DoesNotFit
from everyformer.registry import part


@part("norms")
class UnifiedNorm(Norm):
    """x / sqrt(v + eps), scaled and shifted per channel, v a smoothed mean square over tokens (Yang et al., 2022, section 3).

    In training, once `warmup` steps are past, v is the geometric mean of the last `window` batches', and what it adds to
    the gradient is the mean over as many. `filtered`: a batch with an outlier is normalised by its own statistic alone
    (section 3.3). In use v is the running mean, and `fold_into` the next linear map leaves nothing of it.
    """

    counts = True
    running: Tensor
    squares: Tensor
    pulls: Tensor
    pull: Tensor
    steps: Tensor
    skipped: Tensor

    def __init__(
        self,
        width: int,
        *,
        window: int = 4,
        warmup: int = 4000,
        filtered: bool = False,
        momentum: float = 0.9,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"the window is at least 1 batch; given {window}")
        self.window, self.warmup, self.filtered = window, warmup, filtered
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running", torch.ones(width))
        self.register_buffer("squares", torch.zeros(window, width))
        self.register_buffer("pulls", torch.zeros(window, width))
        self.register_buffer("pull", torch.zeros(width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.long))

    def forward(
        self, values: Float[Tensor, "... D"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "... D"]:
        """Normalised values; only tokens of the mask count for the statistics."""
        if not self.training:
            return values * self.slope() + self.bias
        real = values.detach() if mask is None else values.detach()[mask]
        variance, ratio, skip = self._count(real.reshape(-1, values.shape[-1]).square().mean(0))
        return _Unified.apply(values, self.weight, self.bias, variance, ratio, self, skip)

    def slope(self) -> Float[Tensor, " D"]:
        """What values are multiplied by in use."""
        return self.weight * (self.running + self.eps).rsqrt()

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Change the linear map that follows so that it gives without the norm what it gave after it (section 3.1)."""
        if linear.bias is None:
            raise DoesNotFit(
                "a shift is folded into a bias, and the linear map after the norm has none; build with bias=True"
            )
        linear.bias.add_(linear.weight @ self.bias)
        linear.weight.mul_(self.slope())

    def _smooth(self) -> bool:
        """Whether the statistics of several batches are used by now."""
        return int(self.steps) > self.window and int(self.steps) >= self.warmup

    def _count(self, square: Float[Tensor, " D"]) -> tuple[Tensor, Tensor, bool]:
        """The variance to normalise by, the gradient's correction, and whether this batch is taken alone (algorithm 1)."""
        self.steps.add_(1)
        at = int(self.steps) % self.window
        spread = self.squares.sqrt().var()
        self.squares[at] = square
        skip = self.window == 1
        if self.filtered and int(self.steps) >= self.warmup:
            gap = self.squares.mean(0) - self.squares.log().mean(0).exp()
            if bool((gap > spread * self.window).any()):
                self.squares[at] = self.running
                self.skipped.add_(1)
                skip = True
        variance = self.squares.log().mean(0).exp() if self._smooth() and not skip else square
        ratio = ((variance + self.eps) / (self.running + self.eps)).sqrt()
        calm = int(self.steps) <= max(1000, self.warmup) or skip
        ratio = torch.ones_like(ratio) if calm else ratio.clamp(0.2, 5)
        self.running.lerp_(variance, 1 - self.momentum)
        return variance, ratio, skip


class _Unified(torch.autograd.Function):
    """Algorithm 1 and its gradient, algorithm 2, which smooths what the variance takes away."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        variance: Tensor,
        ratio: Tensor,
        norm: UnifiedNorm,
        skip: bool,
    ) -> Tensor:
        scaled = values * (variance + norm.eps).rsqrt()
        ctx.save_for_backward(scaled, variance, weight, ratio)
        ctx.norm, ctx.skip = norm, skip
        return weight * scaled + bias

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        scaled, variance, weight, ratio = ctx.saved_tensors
        norm: UnifiedNorm = ctx.norm
        gradient = upstream * weight * ratio
        pull = (gradient * scaled).flatten(0, -2).mean(0)
        norm.pulls[int(norm.steps) % norm.window] = norm.pull if ctx.skip else pull
        mean = norm.pulls.mean(0) if norm._smooth() and not ctx.skip else pull
        norm.pull = norm.momentum * norm.pull + (1 - norm.momentum) * mean
        inner = (gradient - (mean if ctx.skip else norm.pull) * scaled) * (variance + norm.eps).rsqrt()
        own = (upstream * ratio * scaled).flatten(0, -2).sum(0)
        return inner, own, upstream.flatten(0, -2).sum(0), None, None, None, None
