"""All tokens of a sequence into one vector: (B, D), or (S, D) where S sequences are packed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import BadInput
from everyformer.registry import Part, part
from everyformer.tokens import Tokens, unpack


class Pool(Part):
    """Base of pools."""

    leads: int = 0
    """How many leading tokens (class, distillation) it cannot do without."""
    widens: int = 1
    """How many times as wide as a token its vector is."""

    def forward(self, tokens: Tokens) -> Float[Tensor, "B E"]:
        """One vector a sequence."""
        raise NotImplementedError


@part("heads")
class FirstToken(Pool):
    """The first real token (the class token, where there is one)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The first token of each sequence."""
        if tokens.lengths is not None:
            return tokens.values[0, tokens.lengths.cumsum(0) - tokens.lengths]
        if tokens.mask is None:
            return tokens.values[:, 0]
        first = tokens.mask.int().argmax(1)
        return tokens.values[torch.arange(tokens.batch, device=first.device), first]


@part("heads")
class LastToken(Pool):
    """The last real token, which in a causal place has seen all others (Radford et al., GPT, 2018, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The last token of each sequence."""
        if tokens.lengths is not None:
            return tokens.values[0, tokens.lengths.cumsum(0) - 1]
        if tokens.mask is None:
            return tokens.values[:, -1]
        last = tokens.mask.shape[1] - 1 - tokens.mask.flip(1).int().argmax(1)
        return tokens.values[torch.arange(tokens.batch, device=last.device), last]


@part("heads")
class LeadingMean(Pool):
    """The mean of the leading tokens (class and distillation token, Gong et al., AST, 2021, official code)."""

    leads = 1

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The mean of the first `prefix` tokens of each sequence."""
        if not tokens.prefix:
            raise BadInput(
                "LeadingMean takes the mean of leading tokens, and there are none; give the embedding first=1"
            )
        if tokens.lengths is not None:
            starts = tokens.lengths.cumsum(0) - tokens.lengths
            index = starts[:, None] + torch.arange(tokens.prefix, device=starts.device)
            return tokens.values[0, index].mean(1)
        return tokens.values[:, : tokens.prefix].mean(1)


@part("heads")
class LeadingMix(Pool):
    """The sum of the first `count` leading tokens, each times a learned weight, plus a shift (Xu et al., CoaT, 2021, 4.3)."""

    def __init__(self, width: int, *, count: int = 2) -> None:
        super().__init__()
        self.leads = count
        self.weigh = nn.Linear(count, 1)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The weighed leading tokens of each sequence."""
        if tokens.prefix < self.leads:
            raise BadInput(
                f"LeadingMix weighs {self.leads} leading tokens, and {tokens.prefix} lead; give another count"
            )
        values = unpack(tokens).values if tokens.lengths is not None else tokens.values
        return self.weigh(values[:, : self.leads].mT)[..., 0]


@part("heads")
class Mean(Pool):
    """The mean of the real tokens, leading class and register tokens left out."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The mean of each sequence."""
        return tokens.mean(tokens.prefix)


@part("heads")
class Largest(Pool):
    """The largest value of each channel over the real tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The largest values."""
        tokens = tokens if tokens.lengths is None else unpack(tokens)
        if tokens.mask is None:
            return tokens.values.amax(1)
        return tokens.values.masked_fill(~tokens.mask[..., None], torch.finfo(tokens.values.dtype).min).amax(1)


@part("heads")
class FirstAndMean(Pool):
    """The first token, and beside it the mean of those after the leading ones (Oquab et al., DINOv2, 2024, appendix B.3)."""

    widens = 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.mean = FirstToken(width), Mean(width)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B E"]:
        """Both vectors of each sequence."""
        return torch.cat((self.first(tokens), self.mean(tokens)), -1)


@part("heads")
class AttentionPool(Pool):
    """softmax(x w) over the tokens, times the tokens: SeqPool (Hassani et al., CCT, 2021, equations 5 to 7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, tokens: Tokens) -> Float[Tensor, "B D"]:
        """The weighted mean of each sequence."""
        if tokens.lengths is not None:
            tokens = unpack(tokens)
        scores = self.score(tokens.values)[..., 0]
        if tokens.weights is not None:
            scores = scores + tokens.weights.clamp(min=1e-6).log()
        if tokens.mask is not None:
            scores = scores.masked_fill(~tokens.mask, torch.finfo(scores.dtype).min)
        return (scores.softmax(-1)[:, None] @ tokens.values)[:, 0]
