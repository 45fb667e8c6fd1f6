"""Classes of which some are rare, told by experts for those that are about as frequent."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.heads.pools import FirstToken, Pool
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("heads")
class ExpertClasses(Head):
    """A linear map for each group of neighbouring classes, which knows none, its own, and that it is one of the others'
    (Sudhakaran et al., VETO, 2023, section 3.3: mutually exclusive experts).

    `groups` are how many classes each expert has of those sorted from frequent to rare. The answer is the logarithm of how
    likely each class is by its own expert, that of none (class 0) by the mean of the experts; what each says itself is noted
    as `expert 0`, `expert 1`, ..., (B, 1 + classes + 1).
    """

    def __init__(
        self,
        width: int,
        *,
        groups: tuple[int, ...] = (4, 6, 9, 19, 12),
        pool: Spec[Pool] = spec(FirstToken),  # noqa: B008
    ) -> None:
        super().__init__()
        if not groups or min(groups) < 1:
            raise ValueError(f"groups are numbers of classes, at least one each; given {groups}")
        self.groups = groups
        self.pool: Pool = self.make("pool", pool, width)
        self.experts = nn.ModuleList(nn.Linear(width, size + 2) for size in groups)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V"]:
        """The logarithm of how likely none and each class are."""
        pooled = self.pool(tokens)
        said = [expert(pooled) for expert in self.experts]
        if context is not None and context.notes is not None:
            context.notes.update({expert_note(i): each for i, each in enumerate(said)})
        likely = [each.log_softmax(-1) for each in said]
        none = torch.stack([each[:, :1] for each in likely]).exp().mean(0).log()
        return torch.cat((none, *(each[:, 1:-1] for each in likely)), -1)


def expert_note(number: int) -> str:
    """The name under which an expert's logits are noted."""
    return f"expert {number}"
