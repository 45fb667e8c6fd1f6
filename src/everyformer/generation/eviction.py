"""Cache policies by attention: each layer keeps the tokens that its queries attended to."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.cache import Cache, Policy
from everyformer.contracts import Mixer
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.policies import latest
from everyformer.mixers.attend import softmax
from everyformer.registry import method, part

ROWS = 512
"""Queries whose weights are formed at a time."""


class Eviction(Policy):
    """Base of policies that drop what is worth least: `keep` tokens of each layer stay, or a share of all seen so far."""

    looks = True

    def __init__(self, *, keep: float = 0.5) -> None:
        super().__init__()
        if keep <= 0 or (isinstance(keep, float) and keep > 1):
            raise BadInput(
                f"keep is {keep}; give a share of the tokens seen, above 0 and at most 1.0, or a number of them"
            )
        self.keep = keep

    def worth(self, cache: Cache, attended: Any) -> Float[Tensor, "B G M"] | None:
        """What each token held is worth to each key head, or, of one head, to all; None: nothing is dropped in this pass."""
        raise NotImplementedError

    def protected(self, room: Tensor | int) -> Tensor | int:
        """How many of the last tokens stay whatever they are worth, at most `room`."""
        return 0

    def space(self, cache: Cache) -> Tensor | int:
        """How many tokens stay: (B, 1), or one number for all."""
        seen = cache.offset()
        if isinstance(self.keep, int):
            return self.keep
        if isinstance(seen, int):
            return max(1, round(self.keep * seen))
        return (self.keep * seen.double()).round().long().clamp(min=1)

    def stays(self, cache: Cache, attended: Any = None) -> Bool[Tensor, "B M"] | Bool[Tensor, "B G M"] | None:
        """The last tokens that are protected, and of the others those worth most, the earlier of equals."""
        worth, room = self.worth(cache, attended), self.space(cache)
        if worth is None or (isinstance(room, int) and cache.count <= room):
            return None
        worth = worth.masked_fill(latest(cache, self.protected(room)).to(worth.device)[:, None], float("inf"))
        if cache.mask is not None:
            worth = worth.masked_fill(~cache.mask[:, None], float("-inf"))
        rank = worth.argsort(dim=-1, descending=True, stable=True).argsort(-1)
        best = rank < (room if isinstance(room, int) else room[:, None])
        return best[:, 0] if best.shape[1] == 1 else best


def by_key_head(x: Float[Tensor, "B H *n"], attended: Any) -> Float[Tensor, "B G *n"]:
    """What the query heads that share a key head make of something together."""
    return x.unflatten(1, (attended.key.shape[1], -1)).sum(2)


def of_the_last(cache: Cache, attended: Any, count: Tensor | int) -> Float[Tensor, "B H R M"]:
    """The weights of the last `count` queries of each sequence, zero for others among them."""
    wanted = latest(cache, count)[:, -attended.query.shape[2] :].to(attended.query.device)
    start = int(wanted.any(0).int().argmax())
    return attended.weights(slice(start, None)) * wanted[:, None, start:, None]


@part("generation")
class TOVA(Eviction):
    """What the last query attends to, in the mean over the heads: the same tokens for all heads of a layer.

    Token omission via attention (Oren et al., 2024, section 3.2). No token is safe, not even the last.
    """

    def worth(self, cache: Cache, attended: Any) -> Float[Tensor, "B 1 M"]:
        """The mean weight."""
        return of_the_last(cache, attended, 1).sum(2).mean(1, keepdim=True)


@part("generation")
class H2O(Eviction):
    """Heavy hitters, which received most attention so far, beside the last tokens (Zhang et al., 2023, algorithm 1).

    Each key head keeps its own; `recent` is the share of the room that is for the last tokens.
    """

    def __init__(self, *, keep: float = 0.5, recent: float = 0.5) -> None:
        super().__init__(keep=keep)
        if not 0 <= recent <= 1:
            raise BadInput(f"recent is {recent}; give the share of what is kept that is for the last tokens, 0 to 1")
        self.recent = recent

    def protected(self, room: Tensor | int) -> Tensor | int:
        """A share of the room."""
        return int(room * self.recent) if isinstance(room, int) else (room.double() * self.recent).long()

    def worth(self, cache: Cache, attended: Any) -> Float[Tensor, "B G M"]:
        """All that each token received, since it came."""
        count = attended.query.shape[2]
        real = None if cache.mask is None else cache.mask[:, None, -count:, None]
        sums = []
        for start in range(0, count, ROWS):
            rows = slice(start, start + ROWS)
            given = self.given(cache, attended, rows)
            sums.append((given if real is None else given * real[:, :, rows]).sum(2))
        got = by_key_head(torch.stack(sums).sum(0), attended)[..., None]
        before = cache.extend(self, received=torch.zeros_like(got[:, :, -count:]))["received"]
        cache.exchange(self, received=before + got)
        return (before + got)[..., 0]

    def given(self, cache: Cache, attended: Any, rows: slice) -> Float[Tensor, "B H R M"]:
        """What some queries give to each token."""
        return attended.weights(rows)


@part("generation")
class Keyformer(H2O):
    """Heavy hitters by scores with noise on them: softmax((x + zeta) / tau), zeta drawn from Gumbel's distribution.

    tau is 1 for the prompt and `growth` more with each pass after it, as fewer tokens are left to bear the weight
    (Adnan et al., 2024, equations 7 to 9 and algorithm 1). The answer itself is taken with plain softmax.
    """

    def __init__(
        self,
        *,
        keep: float = 0.5,
        recent: float = 0.3,
        growth: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(keep=keep, recent=recent)
        self.growth, self.generator = growth, generator

    def given(self, cache: Cache, attended: Any, rows: slice) -> Float[Tensor, "B H R M"]:
        """Weights of the noisy scores."""
        scores, allowed = attended.scores(rows)
        zeta = -torch.empty_like(scores).exponential_(generator=self.generator).log()
        return softmax((scores + zeta) / (1 + self.growth * (cache.passes - 1)), allowed)


@part("generation")
class SnapKV(Eviction):
    """Of the prompt the last `window` tokens and what those attend to; what follows stays (Li et al., 2024, section 4).

    What a token received is averaged with its neighbours', `kernel` in all, so that clusters stay together. Each key head
    keeps its own.
    """

    def __init__(self, *, keep: float = 0.5, window: int = 32, kernel: int = 5) -> None:
        super().__init__(keep=keep)
        if window < 1 or kernel < 1 or kernel % 2 == 0:
            raise BadInput(f"window {window} is at least 1 and kernel {kernel} an odd number")
        self.window, self.kernel = window, kernel

    def protected(self, room: Tensor | int) -> Tensor | int:
        """The window."""
        return min(self.window, room) if isinstance(room, int) else room.clamp(max=self.window)

    def worth(self, cache: Cache, attended: Any) -> Float[Tensor, "B G M"] | None:
        """What each token of the prompt received of the window, and its neighbours."""
        if cache.passes > 1:
            return None
        window = self.protected(self.space(cache))
        got = by_key_head(of_the_last(cache, attended, window).sum(2), attended)
        got = got.masked_fill(latest(cache, window).to(got.device)[:, None], 0)
        return F.avg_pool1d(got, self.kernel, stride=1, padding=self.kernel // 2)


def shown(model: nn.Module) -> None:
    """Refuse a model of which no layer shows what it attended with."""
    mixers = [m for m in model.modules() if isinstance(m, Mixer) and "memory" not in m.capabilities]
    if not any("attended" in m.capabilities for m in mixers):
        names = ", ".join(sorted({type(m).__name__ for m in mixers}))
        raise DoesNotFit(
            f"this policy looks at what layers attend to, and none shows it: {names or 'no mixers'}", "policy"
        )


@method(
    "tova",
    title="Transformers are Multi-State RNNs",
    authors="Oren et al.",
    year=2024,
    arxiv="2401.06104",
    idea="A cache of fixed size: each layer drops the token that the newest query attends to least.",
)
def tova(model: nn.Module, *, keep: float = 0.5) -> TOVA:
    """The policy, for `generate(model, ..., policy=tova(model))`: see `TOVA`."""
    shown(model)
    return TOVA(keep=keep)


@method(
    "h2o",
    title="H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
    authors="Zhang et al.",
    year=2023,
    arxiv="2306.14048",
    idea="A few tokens receive most of the attention: keep those and the last ones, drop the rest of the cache.",
)
def h2o(model: nn.Module, *, keep: float = 0.5, recent: float = 0.5) -> H2O:
    """The policy, for `generate(model, ..., policy=h2o(model))`: see `H2O`."""
    shown(model)
    return H2O(keep=keep, recent=recent)


@method(
    "keyformer",
    title="Keyformer: KV Cache Reduction through Key Tokens Selection for Efficient Generative Inference",
    authors="Adnan et al.",
    year=2024,
    arxiv="2403.09054",
    idea="Keep the tokens that noisy, ever flatter attention would choose: less is lost with what was dropped before.",
)
def keyformer(model: nn.Module, *, keep: float = 0.5, recent: float = 0.3, growth: float = 0.01) -> Keyformer:
    """The policy, for `generate(model, ..., policy=keyformer(model))`: see `Keyformer`."""
    shown(model)
    return Keyformer(keep=keep, recent=recent, growth=growth)


@method(
    "snapkv",
    title="SnapKV: LLM Knows What You are Looking for Before Generation",
    authors="Li et al.",
    year=2024,
    arxiv="2404.14469",
    idea="The end of a prompt shows what will be looked at: keep of the rest only what its last tokens attend to.",
)
def snapkv(model: nn.Module, *, keep: float = 0.5, window: int = 32, kernel: int = 5) -> SnapKV:
    """The policy, for `generate(model, ..., policy=snapkv(model))`: see `SnapKV`."""
    shown(model)
    return SnapKV(keep=keep, window=window, kernel=kernel)
