"""Two scales with fixed patches: a global body sees whole patches, a local one the tokens inside each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.backbones.chunks import on_the_left
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone, Position
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Multiscale(Backbone):
    """A global body over patches of tokens, a local one within each patch (Yu et al., MEGABYTE, 2023, section 2.1).

    A token is D = d + `local_width` wide: what it is for the global body, to which `positions` are added, and behind that
    for the local one. The global body, of width `patch` * d, sees the patches before; the local one, in each patch, what
    that says for each place of the patch, and the tokens of the patch before it. Gives `local_width`.
    """

    incremental = False

    def __init__(
        self,
        width: int,
        *,
        patch: int = 8,
        local_width: int | None = None,
        positions: Spec[Position] | None = None,
        outer: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
        inner: Spec[Backbone] = spec(Encoder, blocks=(spec(Block),) * 2),  # noqa: B008
    ) -> None:
        super().__init__()
        self.patch, self.gives = patch, local_width or width // 2
        self.told = width - self.gives
        if patch < 1 or self.told < 1:
            raise ValueError(
                f"a patch has at least 1 token, and a token of width {width} more than the {self.gives} of the local "
                f"body; given patch={patch}"
            )
        self.positions = self.make("positions", positions, self.told, 1)
        if self.positions is not None:
            self.positions.stands_in("embedding")
        self.outer: Backbone = self.make("outer", outer, patch * self.told)
        self.inner: Backbone = self.make("inner", inner, self.gives)
        self.project = nn.Linear(self.told, self.gives, bias=False)
        self.first_patch = nn.Parameter(torch.randn(patch * self.told) * 0.02)
        self.first = nn.Parameter(torch.randn(self.gives) * 0.02)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """For each token what says the next one; patches are counted from the beginning of each sequence."""
        within = Context() if context is None else Context(mask=context.mask, generator=context.generator)
        return on_the_left(tokens, lambda batch, real: self._run(batch, real, within))

    def _run(self, tokens: Tokens, real: Bool[Tensor, "B N"], context: Context) -> Float[Tensor, "B N E"]:
        values, own = tokens.values.split([self.told, self.gives], -1)
        if self.positions is not None:
            values = values + self.positions(tokens.update(values))
        batch, count = values.shape[:2]
        patches = count // self.patch + 1
        each = (patches, self.patch)
        asked = (torch.arange(patches * self.patch, device=real.device) <= real.sum(1, keepdim=True)).unflatten(1, each)
        seen = values[:, : (patches - 1) * self.patch].unflatten(1, (patches - 1, self.patch)).flatten(2)
        seen = Tokens(torch.cat((self.first_patch.expand(batch, 1, -1), seen), 1), mask=asked[..., 0])
        said = self.outer(seen, context.replace(lowered={})).values.unflatten(-1, (self.patch, self.told))
        before = F.pad(own, (0, 0, 1, patches * self.patch - count - 1)).unflatten(1, each)
        before = torch.cat((self.first.expand(batch, patches, 1, -1), before[:, :, 1:]), 2)
        local = Tokens((self.project(said) + before).flatten(0, 1), mask=asked.flatten(0, 1))
        answer = self.inner(local, context.replace(lowered={})).values
        return answer.reshape(batch, patches * self.patch, self.gives)[:, 1 : count + 1]
