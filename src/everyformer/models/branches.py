"""Two bodies that look at one picture at two scales and tell each other what they saw."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head, Mixer, Norm
from everyformer.models.model import Root, enter
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class TwoBranches(Root):
    """Two branches of several stages; after each, the class token of one asks the patches of the other (CrossViT, 2021).

    `stages[s][b]` is the body of stage s in branch b. `mixers[s][b]`, a cross-attention with `memory="tokens"`, stands in
    the width of the branch that is asked (Chen et al., 2021, equations 4 and 5). A branch sees the picture at its scale
    of `scales`; the answer is the mean of both heads' (section 3.2).
    """

    def __init__(
        self,
        *,
        widths: tuple[int, int],
        embeddings: tuple[Spec[Embedding], Spec[Embedding]],
        stages: tuple[tuple[Spec[Backbone], ...], ...],
        mixers: tuple[tuple[Spec[Mixer], ...], ...],
        heads: tuple[Spec[Head], Spec[Head]],
        norm: Spec[Norm],
        scales: tuple[float, float] = (1.0, 1.0),
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        if len(stages) != len(mixers):
            raise ValueError(f"{len(stages)} stages and {len(mixers)} pairs of mixers; give a pair for each stage")
        self.scales = scales
        there = widths[::-1]
        self.embeddings = self._both("embeddings", embeddings, widths)
        self.stages = nn.ModuleList(self._both(f"stages.{s}", pair, widths) for s, pair in enumerate(stages))
        self.mixers = nn.ModuleList(self._both(f"mixers.{s}", pair, there) for s, pair in enumerate(mixers))
        around = (*there, *widths, *there) * len(stages)
        self.norm = nn.ModuleList(self.make("norm", norm, width) for width in around)
        self.goes = nn.ModuleList(nn.ModuleList(map(nn.Linear, widths, there)) for _ in stages)
        self.returns = nn.ModuleList(nn.ModuleList(map(nn.Linear, there, widths)) for _ in stages)
        self.heads = self._both("heads", heads, widths)
        self.begin(start)

    def _both(self, name: str, pair: tuple[Spec[Any], ...], widths: tuple[int, ...]) -> nn.ModuleList:
        return nn.ModuleList(self.make(f"{name}.{b}", each, width) for b, (each, width) in enumerate(zip(pair, widths)))

    def forward(self, inputs: Float[Tensor, "B C Y X"], *, context: Context | None = None) -> Tensor:
        """The mean of what both branches answer."""
        context = context or Context()
        both = self.features(inputs, context=context)
        first, second = (head(tokens, context) for head, tokens in zip(self.heads, both))
        return (first + second) / 2

    def features(self, inputs: Tensor, *, context: Context | None = None) -> list[Tokens]:
        """The tokens of both branches before the heads."""
        context = context or Context()
        both = [
            enter(each, _scaled(inputs, scale), context, {})
            for each, scale in zip(self.embeddings, self.scales)  # type: ignore
        ]
        for s, stage in enumerate(self.stages):
            both = [body(tokens, context) for body, tokens in zip(stage, both)]  # type: ignore[arg-type, call-overload]
            both = [self._exchange(s, b, both[b], both[1 - b], context) for b in (0, 1)]
        return both

    def _exchange(self, s: int, b: int, own: Tokens, other: Tokens, context: Context) -> Tokens:
        """`own` with a class token that has asked the patches of `other`."""
        asking, going, returning = (self.norm[6 * s + 2 * k + b] for k in range(3))  # type: ignore[index]
        first = self.goes[s][b](F.gelu(going(own.values[:, :1])))  # type: ignore[index]
        whole = other.update(asking(torch.cat((first, other.values[:, 1:]), 1)))
        within = context.replace(memory={**context.memory, "tokens": whole})
        first = first + self.mixers[s][b](Tokens(whole.values[:, :1]), within)  # type: ignore[index]
        back = self.returns[s][b](F.gelu(returning(first)))  # type: ignore[index]
        return own.update(torch.cat((back, own.values[:, 1:]), 1))

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Pictures of zeros."""
        return self.embeddings[0].example(batch)  # type: ignore[operator]


def _scaled(inputs: Tensor, scale: float) -> Tensor:
    """Pictures at another size."""
    if scale == 1.0:
        return inputs
    size = [int(side * scale) for side in inputs.shape[-2:]]
    return F.interpolate(inputs, size=size, mode="bicubic", align_corners=False)
