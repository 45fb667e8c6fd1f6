"""How far each cell is from what is normal there, by how badly it is rebuilt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Head, MapHead, Position
from everyformer.convolution import resized
from everyformer.grids import as_map, as_tokens
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("heads")
class Rebuilt(Head):
    """Cells (the mean of 3 x 3 each) rebuilt by a `body` that sees them at the width `inner`, and as the memory 'normal' what
    is usual in each place (Yao et al., Focus the Discrepancy, 2023, section 3).

    The error of a cell is the mean squared one, and one less the cosine; where the body notes how far its attention is from
    its target, it is times max w - w with w the softmax over the cells of minus that. What is usual is the mean map of all
    that was seen in training, of this `grid`, resized for maps of others. The official code takes it before training starts.
    """

    needs_grid = True
    normal: Tensor
    seen: Tensor

    def __init__(
        self, width: int, *, grid: tuple[int, int], inner: int, body: Spec[Backbone], positions: Spec[Position]
    ) -> None:
        super().__init__()
        self.enter, self.enter_normal = nn.Linear(width, inner), nn.Linear(width, inner)
        self.positions: Position = self.make("positions", positions, inner)
        self.body: Backbone = self.make("body", body, inner)
        self.leave = nn.Linear(inner, width)
        self.register_buffer("normal", torch.zeros(1, width, *grid))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B 1 Y X"]:
        """The score of each cell; where notes are asked for, the mean error of each sample is added to 'error'."""
        cells = F.avg_pool2d(as_map(tokens), 3, 1, 1)
        if self.training:
            self.remember(cells.detach())
        given = as_tokens(cells)
        usual = as_tokens(resized(self.normal, cells.shape[2:], corners=True))
        notes: dict[str, Tensor] = {}
        inside = Context(memory={"normal": self._entered(self.enter_normal, usual)}, notes=notes)
        rebuilt = self.leave(self.body(self._entered(self.enter, given), inside).values)
        off = (rebuilt - given.values).square().mean(-1)
        error = off + 1 - F.cosine_similarity(rebuilt, given.values, dim=-1)
        if context is not None and context.notes is not None:
            context.notes["error"] = error.mean(1) + context.notes.get("error", 0)
        if "divergence" in notes:
            usually = (-notes["divergence"].mean(0)).softmax(-1)
            error = error * (usually.amax(-1, keepdim=True) - usually)
        return error[:, None].unflatten(-1, cells.shape[2:])

    @torch.no_grad()
    def remember(self, cells: Float[Tensor, "B C Y X"]) -> None:
        """Take maps into the mean of those seen."""
        found = resized(cells, self.normal.shape[2:], corners=True)
        self.seen += len(found)
        self.normal += (found - self.normal).sum(0, keepdim=True) / self.seen

    def _entered(self, enter: nn.Module, tokens: Tokens) -> Tokens:
        entered = tokens.update(enter(tokens.values))
        return entered.update(entered.values + self.positions(entered))


@part("heads")
class MeanOfLevels(MapHead):
    """The mean of what each of `heads` says of a level, on a grid `finer` times as fine as the first level's."""

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        heads: tuple[Spec[Head], ...],
        levels: tuple[int, ...] | None = None,
        finer: int = 1,
    ) -> None:
        super().__init__(widths, levels)
        if len(heads) != len(self.widths):
            raise ValueError(f"{len(self.widths)} levels and {len(heads)} heads; give one for each")
        self.finer = finer
        self.heads = nn.ModuleList(
            self.make(f"heads.{i}", each, width) for i, (each, width) in enumerate(zip(heads, self.widths, strict=True))
        )

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The mean of the answers."""
        maps = [head(each, context) for head, each in zip(self.heads, self.read(tokens, context), strict=True)]
        size = tuple(self.finer * side for side in maps[0].shape[2:])
        return torch.stack([resized(each, size, corners=True) for each in maps]).mean(0)
