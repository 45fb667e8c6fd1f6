"""A pyramid of maps made of the one map of a plain body."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Norm
from everyformer.grids import as_map, as_tokens
from everyformer.norms import LayerNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class _Level(nn.Module):
    """A map, perhaps on another grid first, through a 1x1 and a 3x3 convolution, each with a norm behind it."""

    def __init__(self, scale: nn.Module, norms: list[Norm], width: int, to: int) -> None:
        super().__init__()
        self.scale = scale
        self.project = nn.Conv2d(width, to, 1, bias=False)
        self.smooth = nn.Conv2d(to, to, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(norms)

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B E y x"]:
        """The map of this level."""
        cells = self.scale(cells)
        for conv, norm in zip((self.project, self.smooth), self.norms, strict=True):
            cells = norm(conv(cells).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return cells


class _Coarser(nn.Conv2d):
    """Every second cell of a 3x3 convolution, of what is above zero in the map where `rectified`."""

    def __init__(self, width: int, rectified: bool) -> None:
        super().__init__(width, width, 3, 2, 1)
        self.rectified = rectified

    def forward(self, cells: Float[Tensor, "B D Y X"]) -> Float[Tensor, "B D y x"]:  # type: ignore[override]
        """The map of the next level."""
        return super().forward(F.relu(cells) if self.rectified else cells)


@part("backbones")
class SimplePyramid(Backbone):
    """`body`, and levels that are each made of its last map alone: one twice as fine, one as fine and one half as fine (Li et
    al., ViTDet, 2022, section 3), and `coarser` ones after those, each half as fine as the one before (the P6 and P7 of
    Lin et al., RetinaNet, 2017); Wu et al., GRiT, 2022, official code.

    The answer is that of the body; the levels, from fine to coarse and all of width `to`, are for heads of maps, and made
    where those ask.
    """

    def __init__(
        self,
        width: int,
        *,
        body: Spec[Backbone],
        to: int = 256,
        coarser: int = 2,
        norm: Spec[Norm] = spec(LayerNorm),  # noqa: B008
    ) -> None:
        super().__init__()
        self.body: Backbone = self.make("body", body, width)
        inner = self.body.gives or width
        scales = nn.ConvTranspose2d(inner, inner, 2, 2, bias=False), nn.Identity(), nn.MaxPool2d(2)
        self.levels = nn.ModuleList(
            _Level(scale, [self.make("norm", norm, to) for _ in range(2)], inner, to) for scale in scales
        )
        self.coarser = nn.ModuleList(_Coarser(to, number > 0) for number in range(coarser))
        self.gives, self.widths = inner, (to,) * (len(scales) + coarser)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the body."""
        context = context or Context()
        after = self.body(tokens, context.replace(levels=None))
        if context.levels is None:
            return after
        cells = as_map(after)
        for level in self.levels:
            made = level(cells)
            context.levels[level] = as_tokens(made)
        for level in self.coarser:
            made = level(made)
            context.levels[level] = as_tokens(made)
        return after
