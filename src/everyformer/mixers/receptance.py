"""RWKV's two layers: a decaying average under a gate, and a feedforward that also sees the token before."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Mixer
from everyformer.mixers.history import shift
from everyformer.mixers.scan import keep, recall
from everyformer.registry import part
from everyformer.tokens import Tokens

CHUNK = 32
"""Tokens averaged over at once: each channel takes a matrix of chunk x chunk."""


class _Shifted(Mixer):
    """What both layers share: maps of a mixture, learned for each channel, of each token and the one before."""

    capabilities = frozenset({"causal", "padding", "incremental", "ordered"})

    def __init__(self, *mixtures: Float[Tensor, " D"]) -> None:
        super().__init__()
        self.mixtures = nn.Parameter(torch.stack(mixtures)[:, None])

    def mixed(self, tokens: Tokens, context: Context) -> tuple[Float[Tensor, "B N D"], ...]:
        """Each mixture of the tokens and those before them."""
        before = shift(self, tokens, context)
        return tuple((before + (tokens.values - before) * mixture) for mixture in self.mixtures)


@part("mixers")
class TimeMix(_Shifted):
    """sigmoid(r_t) times the mean of v_j weighted by e^{k_j - (t-1-j) w}, the token's own by e^{k_t + u} (Peng et al., RWKV, 2023, eq. 11 to 15).

    w = e^decay for each channel. Which of how many `layers` this `layer` is sets where decays and mixtures start.
    """

    def __init__(self, width: int, *, hidden: int | None = None, layer: int = 0, layers: int = 1) -> None:
        late, early = layer / max(layers - 1, 1), 1 - layer / layers
        mixture = (torch.arange(width) / width) ** early
        super().__init__(mixture, mixture + 0.3 * late, mixture**0.5)
        hidden = hidden or width
        self.key = nn.Linear(width, hidden, bias=False)
        self.value = nn.Linear(width, hidden, bias=False)
        self.receptance = nn.Linear(width, hidden, bias=False)
        channels = torch.arange(hidden) / max(hidden - 1, 1)
        self.decay = nn.Parameter(-5 + 8 * channels ** (0.7 + 1.3 * late))
        self.bonus = nn.Parameter(0.5 * ((torch.arange(hidden) + 1) % 3 - 1) - 1.2)
        self.output = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The decaying averages under their gates."""
        context = context or Context()
        key, value, receptance = self.mixed(tokens, context)
        key, value = self.key(key), self.value(value)
        weight, mean = recall(self, context, "weight"), recall(self, context, "mean")
        averages, weight, mean = fading_mean(key, value, self.decay, self.bonus, tokens.mask, weight, mean)
        keep(self, context, weight=weight, mean=mean)
        return self.output(self.receptance(receptance).sigmoid() * averages)


@part("mixers")
class ChannelMix(_Shifted):
    """sigmoid(r) times W_v max(W_k x, 0)^2, both of mixtures with the token before (Peng et al., RWKV, 2023, eq. 16 to 18)."""

    def __init__(self, width: int, *, hidden: int | None = None, layer: int = 0, layers: int = 1) -> None:
        mixture = (torch.arange(width) / width) ** (1 - layer / layers)
        super().__init__(mixture, mixture)
        hidden = hidden or 4 * width
        self.key = nn.Linear(width, hidden, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The gated update."""
        key, receptance = self.mixed(tokens, context or Context())
        return self.receptance(receptance).sigmoid() * self.value(self.key(key).relu().square())


def fading_mean(
    key: Float[Tensor, "B N C"],
    value: Float[Tensor, "B N C"],
    decay: Float[Tensor, " C"],
    bonus: Float[Tensor, " C"],
    mask: Tensor | None = None,
    weight: Float[Tensor, "B 1 C"] | None = None,
    mean: Float[Tensor, "B 1 C"] | None = None,
) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B 1 C"], Float[Tensor, "B 1 C"]]:
    """RWKV's average, and what stands for the past after it: the logarithm of its total weight, and its mean.

    A softmax over the tokens of a chunk and the past as one more token, so that nothing overflows.
    """
    dtype = torch.promote_types(key.dtype, torch.float32)
    rate, own = decay.to(dtype).exp(), bonus.to(dtype)
    keys, values = key.to(dtype), value.to(dtype)
    real = torch.ones_like(keys[..., :1]) if mask is None else mask[..., None].to(dtype)
    keys = keys.masked_fill(real == 0, float("-inf"))
    if weight is None or mean is None:
        weight, mean = torch.full_like(values[:, :1], -1e30), torch.zeros_like(values[:, :1])
    found = []
    for k, v, r in zip(keys.split(CHUNK, 1), values.split(CHUNK, 1), real.split(CHUNK, 1), strict=True):
        age, held = r.cumsum(1), torch.cat((mean, v), 1)
        since, last = age - r, age[:, -1:]
        place = torch.arange(k.shape[1], device=k.device)
        scores = k[:, None] - (since[:, :, None] - age[:, None]).clamp(min=0) * rate
        scores = scores + (place[:, None] == place)[..., None] * own
        scores = scores.masked_fill((place[:, None] < place)[..., None], float("-inf"))
        scores = torch.cat(((weight - since * rate)[:, :, None], scores), 2)
        found.append(torch.einsum("bijc,bjc->bic", scores.softmax(2), held))
        ends = torch.cat((weight - last * rate, k - (last - age) * rate), 1)
        weight = ends.logsumexp(1, keepdim=True)
        mean = (ends.softmax(1) * held).sum(1, keepdim=True)
    return torch.cat(found, 1).to(value.dtype), weight, mean
