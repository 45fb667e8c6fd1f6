"""Binary codes as the features of linear attention, by hash functions that learn which tokens are alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import BadInput
from everyformer.mixers.features import FeatureMap
from everyformer.mixers.linear import LinearAttention
from everyformer.mixers.shapes import line, split
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("mixers")
class HashFeatures(FeatureMap):
    """Codes H(x) of `bits` signs, beside sqrt(b + 1): products b + 1 + H(q) . H(k) are positive (Liu et al., EcoFormer, 2022).

    H_r(x) = sign(sum_j a_rj (k(x, c_j) - m_j)) with a Gaussian kernel k to `anchors` c (section 4.1) and x of length 1. The
    gradient passes the sign where it is within 1. Anchors, means, the kernel's width and a are `fit` to tokens (section 4.2);
    before that they are random. The width is that of the tokens fitted to, where the official code takes it of each input
    anew, so that the code of a token is its own.
    """

    anchors: Tensor
    spread: Tensor
    means: Tensor
    weights: Tensor

    def __init__(self, width: int, heads: int = 1, *, bits: int = 16, anchors: int = 25) -> None:
        super().__init__()
        if bits < 1 or anchors < 1:
            raise ValueError(f"bits and anchors are at least 1; given {bits} and {anchors}")
        self.bits = bits
        self.register_buffer("anchors", F.normalize(torch.randn(heads, anchors, width), dim=-1))
        self.register_buffer("spread", torch.full((heads, 1, 1), 2.0))
        self.register_buffer("means", torch.full((heads, 1, anchors), math.exp(-0.5)))
        self.register_buffer("weights", torch.randn(heads, bits, anchors))

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """The code, and what makes all products positive."""
        code = self.code(x)
        return torch.cat((code, code.new_full((*code.shape[:-1], 1), math.sqrt(self.bits + 1))), -1)

    def code(self, x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H N R"]:
        """Signs; their gradient is that of the value clipped to [-1, 1]."""
        soft = (self.kernel(x) - self.means) @ self.weights.mT
        near = soft.clamp(-1, 1)
        return near + (torch.where(soft > 0, 1.0, -1.0).to(soft) - near).detach()

    def kernel(self, x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H N m"]:
        """exp(-|x - c|^2 / 2 s), x of length 1."""
        return (-self._distance(x) / (2 * self.spread)).exp()

    def _distance(self, x: Float[Tensor, "B H N K"]) -> Float[Tensor, "B H N m"]:
        x = F.normalize(x, dim=-1)
        lengths = x.square().sum(-1, keepdim=True) + self.anchors.square().sum(-1)[:, None]
        return lengths - 2 * x @ self.anchors.mT

    @torch.no_grad()
    def fit(
        self,
        x: Float[Tensor, "B H N K"],
        *,
        alike: int = 10,
        steps: int = 100,
        rate: float = 5.0,
        momentum: float = 0.9,
        generator: torch.Generator | None = None,
    ) -> None:
        """Fit the hash functions to tokens, one bit after the other (section 4.2; Liu et al., 2012).

        Of each token the `alike` most and least similar ones are wanted at equal and at opposite codes, bS. Each bit takes
        `steps` of Nesterov's gradient on what is left of bS, the sign a sigmoid for the time, and is kept where the signs
        themselves came nearer to it.
        """
        batch, heads, count, _ = x.shape
        if count < 2 * alike:
            raise BadInput(f"hash functions are fit to {2 * alike} tokens of a sequence or more; given {count}")
        chosen = torch.randint(batch * count, (self.anchors.shape[1],), generator=generator).to(x.device)
        x = F.normalize(x, dim=-1)
        self.anchors.copy_(x.transpose(0, 1).flatten(1, 2)[:, chosen])
        self.spread.copy_(self._distance(x).mean((0, 2, 3))[:, None, None].clamp(min=1e-6))
        seen = self.kernel(x)
        self.means.copy_(seen.mean((0, 2))[:, None])
        seen = seen - self.means
        order = (x @ x.mT).argsort(-1, descending=True)
        left = torch.zeros(batch, heads, count, count, dtype=x.dtype, device=x.device)
        left.scatter_(-1, order[..., :alike], float(self.bits)).scatter_(-1, order[..., -alike:], -float(self.bits))
        for bit in range(self.bits):
            before = self.weights[:, bit].clone()
            after, speed = before.clone(), torch.zeros_like(before)
            for _ in range(steps):
                soft = 2 * torch.einsum("bhnm,hm->bhn", seen, after).sigmoid() - 1
                pull = -_met(left, soft) * (1 - soft.square()) / (batch * count * self.bits)
                slope = torch.einsum("bhnm,bhn->hm", seen, pull)
                speed = momentum * speed + slope
                after = after - rate * (slope + momentum * speed)
            codes = [torch.where(torch.einsum("bhnm,hm->bhn", seen, a) > 0, 1.0, -1.0).to(x) for a in (before, after)]
            worth = [(_met(left, code) * code).sum((0, 2)) for code in codes]
            better = worth[1] > worth[0]
            self.weights[:, bit] = torch.where(better[:, None], after, before)
            code = torch.where(better[:, None], codes[1], codes[0])
            left = left - code[..., None] * code[..., None, :]


def _met(left: Tensor, code: Float[Tensor, "B H N"]) -> Float[Tensor, "B H N"]:
    """(R + R^T) y / 2: whom a token is alike is not always alike it."""
    return (torch.einsum("bhnm,bhm->bhn", left, code) + torch.einsum("bhnm,bhn->bhm", left, code)) / 2


@part("mixers")
class SharedLinearAttention(LinearAttention):
    """Linear attention whose queries are its keys; by default binary codes (Liu et al., EcoFormer, 2022, equation 8)."""

    def __init__(
        self, width: int, *, heads: int = 8, features: Spec[FeatureMap] = spec(HashFeatures), bias: bool = True  # noqa: B008
    ) -> None:  # fmt: skip
        super().__init__(width, heads=heads, features=features, bias=bias)
        self.qkv = nn.Linear(width, 2 * width, bias=bias)

    def operands(self, tokens: Tokens, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """The features of queries, which are those of keys, and the values."""
        key, value = (split(x, self.heads) for x in self.qkv(tokens.values).chunk(2, -1))
        return *self.features(key, key, line(tokens, context)), value


def fit_codes(model: nn.Module, run: Callable[[], Any], **options: Any) -> int:
    """Fit all hash functions of a model to the tokens that they are given while `run` runs it; how many were fitted.

    EcoFormers do this now and then in training (section 4.2). `options` are those of `HashFeatures.fit`.
    """
    given: dict[HashFeatures, Tensor] = {}
    found = [module for module in model.modules() if isinstance(module, SharedLinearAttention)]
    found = [each for each in found if isinstance(each.features, HashFeatures)]

    def keep(attention: Any, inputs: tuple[Any, ...]) -> None:
        key = attention.qkv(inputs[0].values).chunk(2, -1)[0]
        given[attention.features] = split(key, attention.heads).detach()

    hooks = [each.register_forward_pre_hook(keep) for each in found]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    for features, x in given.items():
        features.fit(x, **options)
    return len(given)
