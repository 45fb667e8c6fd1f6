"""Reduction to learned centres, which take part in a body before tokens go to them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.choices import choose
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.reduction.base import Slot, Step, real
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("reduction")
class Grouping(Step):
    """`groups` learned centres run through `body` together with the tokens, and each token then goes to one of them, which
    becomes c + W_o (sum of W_v x) / (1 + n) over its n tokens (Xu et al., GroupViT, 2022, section 3.1).

    The centre is that with the largest W_q c . W_k x; in training it is drawn, with straight-through gradients. One that no
    token goes to keeps what the body made of it, but for the bias of W_o. Leading tokens stay, and the body does not see them.
    """

    least = 1.0
    """What is added to the number of a centre's tokens, so that a centre without any is no division by zero."""

    def __init__(self, width: int, *, body: Spec[Backbone], groups: int = 64) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"tokens go to one group at least; given groups={groups}")
        self.groups = groups
        self.centres = nn.Embedding(groups, width)
        nn.init.normal_(self.centres.weight, std=0.02)
        self.body: Backbone = self.make("body", body, width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def idle(self, tokens: Tokens) -> bool:
        """Whether there is nothing to group."""
        return tokens.count == tokens.prefix

    def reduce(self, tokens: Tokens, context: Context) -> tuple[Tokens, Slot]:
        """The leading tokens and the centres, which stand where their tokens stand in the mean."""
        lead, there = tokens.prefix, real(tokens)
        centres = self.centres(torch.arange(self.groups, device=there.device)).expand(tokens.batch, -1, -1)
        given = Tokens(
            torch.cat((centres.to(tokens.values.dtype), tokens.values[:, lead:]), 1),
            mask=None if tokens.mask is None else F.pad(there[:, lead:], (self.groups, 0), value=True),
        )
        inside = context.replace(lowered={}, levels=None, attended=None)
        centres, rest = self.body(given, inside).values.split((self.groups, tokens.count - lead), 1)
        shares = self.shares(centres, rest, context) * there[:, None, lead:]
        index = shares.argmax(1) + lead
        totals = shares.sum(-1, keepdim=True)
        centres = centres + self.output(shares @ self.value(rest) / (totals + self.least))
        places = (shares.detach() @ tokens.places[:, lead:].to(rest.dtype)) / totals.detach().clamp(min=1)
        first = tokens.places[:, :lead].expand(tokens.batch, -1, -1).to(places.dtype)
        fewer = Tokens(
            torch.cat((tokens.values[:, :lead], centres), 1),
            mask=None if tokens.mask is None else self.filled(there, lead),
            positions=torch.cat((first, places), 1),
            prefix=lead,
        )
        return fewer, self.slot(index, lead).masked_fill(~there, -1)

    def shares(
        self, centres: Float[Tensor, "B G D"], rest: Float[Tensor, "B N D"], context: Context
    ) -> Float[Tensor, "B G N"]:
        """1 for the centre that each token goes to, 0 for the others."""
        scores = self.key(rest) @ self.query(centres).mT * rest.shape[-1] ** -0.5
        return choose(scores, training=self.training, generator=context.generator).mT

    def filled(self, there: Bool[Tensor, "B N"], lead: int) -> Bool[Tensor, "B K"]:
        """Which tokens are real: the centres of a sequence that has any tokens to go to them."""
        some = there[:, lead:].any(1, keepdim=True).expand(-1, self.groups)
        return torch.cat((there[:, :lead], some), 1)

    def slot(self, index: Int[Tensor, "B n"], lead: int) -> Int[Tensor, "B N"]:
        """Where every token goes; a leading one to itself."""
        own = torch.arange(lead, device=index.device).expand(index.shape[0], -1)
        return torch.cat((own, index), 1)

    def extra_repr(self) -> str:
        """How many groups."""
        return f"groups={self.groups}"
