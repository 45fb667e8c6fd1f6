"""Queries as the centres of clusters: every cell of a map belongs to one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Norm, normed
from everyformer.convolution import resized
from everyformer.heads.masks import MaskSet, Said
from everyformer.heads.pixels import Map, Pixels
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

Centres = Float[Tensor, "B N D"]
Share = Callable[[Float[Tensor, "B N M"]], Float[Tensor, "B N M"]]
"""Logits of masks into what each query takes of each cell."""
VOID = 0.9
"""How likely a query says nothing before anything is learnt."""


class OfEach(nn.Module):
    """BatchNorm(W x) of every query."""

    def __init__(self, width: int, to: int, *, last: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width, to, bias=False)
        self.norm = nn.BatchNorm1d(to, eps=1e-3)
        if last:  # what is added begins as nothing
            nn.init.zeros_(self.norm.weight)

    def forward(self, centres: Centres) -> Float[Tensor, "B N E"]:
        """The mapped and normalised queries."""
        return self.norm(self.linear(centres).mT).mT


def of_cells(width: int, to: int, *, kernel: int = 1, groups: int = 1, bias: bool = False) -> nn.Sequential:
    """BatchNorm(conv(x))."""
    conv = nn.Conv2d(width, to, kernel, padding=kernel // 2, groups=groups, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(to, eps=1e-3))


class Telling(nn.Module):
    """What queries say on a map: a class, and how near each cell is to a vector of theirs, cells having length 1; the logits of
    masks deviate by `sharpness` before anything is learnt.
    """

    def __init__(self, width: int, hidden: int, classes: int, sharpness: float) -> None:
        super().__init__()
        self.around = of_cells(width, width, kernel=5, groups=width)
        self.wide = of_cells(width, hidden)
        self.cells = of_cells(hidden, hidden // 2, bias=True)
        self.mask = OfEach(hidden, hidden // 2)
        self.classify = nn.Linear(hidden, classes + 1)
        self.sharp = nn.BatchNorm2d(1, eps=1e-3)
        nn.init.constant_(self.sharp.weight, sharpness)
        nn.init.constant_(self.sharp.bias, 0.0)
        self.void = math.log(classes * VOID / (1 - VOID))

    def forward(self, named: Centres, masking: Centres, cells: Map) -> Said:
        """The logits of classes, by `named`, and of masks, by `masking`."""
        cells = F.normalize(self.cells(F.gelu(self.wide(F.gelu(self.around(cells))))), dim=1)
        masks = torch.einsum("bdyx,bnd->bnyx", cells, self.mask(masking))
        classes = self.classify(named)
        likely = F.pad(classes.new_full((1,), self.void), (classes.shape[-1] - 1, 0))
        return classes + likely, self.sharp(masks.flatten(2)[:, None])[:, 0].view_as(masks)


class Clustering(nn.Module):
    """One step of k-means, in which a learned map says which cell belongs to which query; then queries meet each other, and
    an MLP (Yu et al., kMaX-DeepLab, 2022, section 3.2, equation 5 and figure 3; their code for norms).
    """

    def __init__(
        self, width: int, hidden: int, classes: int, heads: int, mlp: int, share: Share, sharpness: float
    ) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.enter = OfEach(hidden, hidden)
        self.enter_cells = of_cells(width, hidden)
        self.value = of_cells(hidden, hidden)
        self.telling = Telling(hidden, hidden, classes, sharpness)
        self.gathered = nn.BatchNorm1d(hidden, eps=1e-3)
        self.gather = OfEach(hidden, hidden, last=True)
        self.qkv = OfEach(hidden, 2 * hidden)
        self.scores = nn.BatchNorm2d(heads, eps=1e-3)
        self.met = nn.BatchNorm1d(hidden, eps=1e-3)
        self.meet = OfEach(hidden, hidden, last=True)
        self.up = OfEach(hidden, mlp)
        self.down = OfEach(mlp, hidden, last=True)

    def forward(self, centres: Centres, cells: Map) -> tuple[Centres, Said]:
        """The queries after the step, and what they said before it."""
        cells = F.gelu(self.enter_cells(F.gelu(cells)))
        asking = F.gelu(self.enter(centres))
        said = self.telling(asking, asking, cells)
        gathered = self.share(said[1].flatten(2)) @ self.value(cells).flatten(2).mT
        centres = centres + self.gather(self.gathered(gathered.mT).mT)
        centres = F.gelu(centres + self.meet(F.gelu(self.met(self.between(asking).mT).mT)))
        return F.gelu(centres + self.down(F.gelu(self.up(centres)))), said

    def between(self, asking: Centres) -> Centres:
        """Attention of the queries to each other, its scores normed; keys are half as wide as values."""
        width = asking.shape[-1]
        query, key, value = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in self.qkv(asking).split((width // 2, width // 2, width), -1)
        )
        return (self.scores(query @ key.mT).softmax(-1) @ value).transpose(1, 2).flatten(2)


def assigned(logits: Float[Tensor, "B N M"]) -> Float[Tensor, "B N M"]:
    """1 for the query that each cell is nearest to, 0 for the others, without gradient (equation 4)."""
    return torch.zeros_like(logits).scatter(1, logits.detach().argmax(1, keepdim=True), 1.0)


@part("heads")
class ClusterQueries(MaskSet):
    """Queries that are the centres of clusters: at each of the maps that `pixels` gives, from coarse to fine, `depths` steps
    of k-means, and last what they say on the finest (Yu et al., kMaX-DeepLab, 2022, section 3). A pixel belongs to
    queries by the softmax over them, of logits that deviate by `sharpness` at first; `momentum` is that of the running figures of
    all norms. Both are the authors' for 150,000 steps. A run of hundreds wants more: a scale grows by no more than the
    learning rate in a step, and figures that do not follow make nothing of what was learnt.
    """

    share: Share = staticmethod(assigned)

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        classes: int,
        pixels: Spec[Pixels],
        queries: int = 128,
        hidden: int = 256,
        heads: int = 8,
        mlp: int = 2048,
        depths: tuple[int, ...] = (2, 2, 2),
        sharpness: float = 0.1,
        momentum: float = 0.01,
        level_norm: Spec[Norm] | None = None,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(widths, levels)
        self.classes = classes
        self.level_norm = self.for_levels("level_norm", level_norm)
        self.pixels: Pixels = self.make("pixels", pixels, self.widths, hidden)
        if len(depths) != self.pixels.levels:
            raise ValueError(f"depths is a number for each of {self.pixels.levels} levels; given {depths}")
        self.depths = depths
        self.centres = nn.Embedding(queries, hidden)
        self.steps = nn.ModuleList(
            Clustering(hidden, hidden, classes, heads, mlp, self.share, sharpness) for _ in range(sum(depths))
        )
        self.named, self.masking = OfEach(hidden, hidden), OfEach(hidden, hidden)
        self.telling = Telling(hidden, hidden, classes, sharpness)
        for module in nn.ModuleList((self.steps, self.named, self.masking, self.telling)).modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = momentum

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B V Y X"]:
        """The logits of each cell of the map that masks are said on."""
        cells, looked = self.pixels(normed(self.level_norm, self.maps(tokens, context)), context)
        centres = self.centres(torch.arange(self.centres.num_embeddings, device=cells.device))
        centres = centres.expand(cells.shape[0], -1, -1)
        layers: list[Said] = []
        of_level = [each for each, depth in zip(looked, self.depths, strict=True) for _ in range(depth)]
        for step, each in zip(self.steps, of_level, strict=True):
            centres, said = step(centres, each)
            layers.append(said)
        layers.append(self.telling(F.gelu(self.named(centres)), F.gelu(self.masking(centres)), cells))
        classes, masks = zip(*layers, strict=True)
        return self.pixels_of(
            (torch.stack(classes), torch.stack([resized(m, cells.shape[2:]) for m in masks])), context
        )

    def odds(self, masks: Float[Tensor, "B N Y X"]) -> Float[Tensor, "B N Y X"]:
        """To which query each pixel belongs."""
        return masks.softmax(1)


@part("heads")
class SoftClusterQueries(ClusterQueries):
    """The same, where every query takes a mean of all cells by a softmax over them, as cross-attention does: what k-means
    stands in the place of (section 3.1, equation 1).
    """

    share: Share = staticmethod(partial(torch.softmax, dim=-1))
