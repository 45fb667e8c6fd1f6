"""Mixtures of experts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import FeedForward, Router
from everyformer.feedforward.dense import MLP
from everyformer.feedforward.routers import TopK
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("feedforward")
class Experts(FeedForward):
    """The weighted sum of the experts that a router chooses for a token (Shazeer et al., 2017, equation 1).

    No token is dropped. `shared` is one that every token passes besides (Dai et al., DeepSeekMoE, 2024, section 3.2).
    """

    def __init__(
        self,
        width: int,
        *,
        count: int = 8,
        expert: Spec[FeedForward] = spec(MLP),  # noqa: B008
        router: Spec[Router] = spec(TopK),  # noqa: B008
        shared: Spec[FeedForward] | None = None,
    ) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"there is at least one expert; given count={count}")
        self.expert: nn.ModuleList = self.make("expert", (expert,) * count, width)
        self.router: Router = self.make("router", router, width, count)
        self.shared = self.make("shared", shared, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token; each expert works on the tokens that came to it, all at once."""
        weights = self.router(tokens, context)
        if tokens.mask is not None:
            weights = weights * tokens.mask[..., None]
        flat, weights = tokens.values.flatten(0, 1), weights.flatten(0, 1)
        update = torch.zeros_like(flat)
        for expert, weight in zip(self.expert, weights.unbind(1), strict=True):
            rows = self._rows(weight)
            said = expert(Tokens(flat[rows][None]), context)[0]
            update = update.index_add(0, rows, said * weight[rows, None])
        update = update.view_as(tokens.values)
        return update if self.shared is None else update + self.shared(tokens, context)

    def _rows(self, weight: Float[Tensor, " T"]) -> Tensor:
        """The tokens of an expert.

        While compiling, which cannot ask how many, all of them, most with weight zero; on the meta device, where costs
        are counted, an even share.
        """
        if torch.compiler.is_compiling():
            return torch.arange(weight.shape[0], device=weight.device)  # len() would fix the number
        if weight.is_meta:
            return torch.arange(round(len(weight) * self.router.each / len(self.expert)), device="meta")
        return weight.nonzero()[:, 0]
