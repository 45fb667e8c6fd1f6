"""Stacks of blocks: the encoder, and the decoder, which is a stack in a causal place."""

from __future__ import annotations

from torch import nn

from everyformer.backbones.blocks import Block
from everyformer.context import Context
from everyformer.contracts import Backbone, Mixer, Norm, Position, require
from everyformer.masks import Causal, Full, Mask
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class Encoder(Backbone):
    """Blocks one after the other, and a last norm; `mask` says which token may see which in all of them.

    A mixer that cannot honour the mask is refused here. `positions` is one position part that all layers share.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),) * 6,
        norm: Spec[Norm] | None = None,
        positions: Spec[Position] | None = None,
        mask: Mask = Full(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.mask = mask
        self.blocks: nn.ModuleList = self.make("blocks", blocks, width)
        self.norm = self.make("norm", norm, width)
        heads, inner = 1, width
        for path, module in self.named_modules():
            if isinstance(module, Mixer):
                require(module, mask, path)
                if heads == 1 and hasattr(module, "head_width"):
                    heads, inner = int(module.heads), int(module.heads) * int(module.head_width)  # type: ignore[arg-type]
        self.positions = self.make("positions", positions, inner, heads)
        if self.positions is not None:
            self.positions.stands_in("attention")

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after all blocks."""
        context = (context or Context()).replace(mask=self.mask, positions=self.positions)
        for block in self.blocks:
            tokens = block(tokens, context)
        return tokens if self.norm is None else tokens.update(self.norm(tokens.values))


@part("backbones")
class Decoder(Encoder):
    """An encoder in a causal place: no token sees a later one (Vaswani et al., 2017, section 3.1)."""

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),) * 6,
        norm: Spec[Norm] | None = None,
        positions: Spec[Position] | None = None,
        mask: Mask = Causal(),  # noqa: B008
    ) -> None:
        super().__init__(width, blocks=blocks, norm=norm, positions=positions, mask=mask)
