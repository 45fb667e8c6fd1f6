"""What stands between the stages of a pyramid: a map onto a coarser grid of another width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Norm, Transition, normalise
from everyformer.grids import as_cells, as_map, as_tokens, same
from everyformer.mixers.bottleneck import Bottleneck
from everyformer.norms import BatchNorm, LayerNorm
from everyformer.norms.branches import Branch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class PatchMerging(Transition):
    """Each 2x2 neighbourhood as one vector, through one linear map without bias (Liu et al., Swin, 2021, section 3.1).

    `norm` stands before the map (Swin), `after` behind it (Swin V2). An odd row or column is filled up with zeros.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        norm: Spec[Norm] | None = spec(LayerNorm),  # noqa: B008
        after: Spec[Norm] | None = None,
    ) -> None:
        super().__init__()
        self.norm = self.make("norm", norm, 4 * width)
        self.project = nn.Linear(4 * width, to, bias=False)
        self.after = self.make("after", after, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on half the grid; the rows of a neighbourhood vary first, as in the official code."""
        cells = as_cells(tokens)
        rows, columns = cells.shape[1:3]
        if rows % 2 or columns % 2:
            cells = F.pad(cells, (0, 0, 0, columns % 2, 0, rows % 2))
        values = cells.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        values = self.project(values if self.norm is None else self.norm(values))
        values = values if self.after is None else self.after(values)
        return as_tokens(values.permute(0, 3, 1, 2))


@part("backbones")
class ConvMerging(Transition):
    """A strided convolution, which overlaps where its kernel is wider than its stride (Wang et al., PVT v2, 2022, 3.2).

    `before` and `norm` stand before and behind it.
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        kernel: int = 3,
        stride: int = 2,
        padding: int = 0,
        before: Spec[Norm] | None = None,
        norm: Spec[Norm] | None = None,
    ) -> None:
        super().__init__()
        self.before = self.make("before", before, width)
        self.project = nn.Conv2d(width, to, kernel, stride, padding)
        self.norm = self.make("norm", norm, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        if self.before is not None:
            tokens = tokens.update(self.before(tokens.values))
        merged = as_tokens(self.project(as_map(tokens)))
        return merged if self.norm is None else merged.update(self.norm(merged.values))


@part("backbones")
class Thinning(Transition):
    """Every `stride`-th row and column, nothing learned; channels that are lacking are zero (He et al., ResNet, 2016, section
    4.1, option A).
    """

    def __init__(self, width: int, to: int, *, stride: int = 2) -> None:
        super().__init__()
        if to < width:
            raise ValueError(f"nothing is left out of {width} channels to give {to}; take ConvMerging")
        self.stride, self.lacking = stride, to - width

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid."""
        kept = as_tokens(as_map(tokens)[:, :, :: self.stride, :: self.stride])
        return kept.update(F.pad(kept.values, (0, self.lacking)))


@part("backbones")
class LeavingMerging(ConvMerging):
    """A strided convolution that leaves leading tokens behind, for stages that have their own (Xu et al., CoaT, 2021, 4.1)."""

    leading = True


@part("backbones")
class MeanMerging(Transition):
    """The mean of each neighbourhood of `size` x `size` cells, then a map of each (Yu et al., EDAFormer, 2024, section 3.1).

    `norm` and `activation` stand behind the map. A map of fewer rows or columns has the mean of all of them. Its weights
    do not depend on `size`, which may change after training (section 3.3).
    """

    def __init__(
        self, width: int, to: int, *, size: int = 2, norm: Spec[Norm] | None = None, activation: str = "linear"
    ) -> None:
        super().__init__()
        self.size = size
        self.project = nn.Linear(width, to)
        self.norm = self.make("norm", norm, to)
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid; rows and columns that fill no neighbourhood are left out."""
        cells = as_map(tokens)
        merged = as_tokens(F.avg_pool2d(cells, [min(self.size, side) for side in cells.shape[2:]]))
        values = self.project(merged.values)
        return merged.update(self.activation(values if self.norm is None else self.norm(values)))


@part("backbones")
class DepthwiseMerging(Transition):
    """A strided convolution of each channel alone into `to` / width channels; leading tokens have a linear map
    of their own (Heo et al., PiT, 2021, section 3.2).
    """

    leading = True

    def __init__(self, width: int, to: int, *, kernel: int = 3, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, to, kernel, stride, padding, groups=width)
        self.lead = nn.Linear(width, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on the coarser grid, the leading ones before them."""
        merged = as_tokens(self.project(as_map(tokens)))
        return _led(merged, self.lead(tokens.values[:, : tokens.prefix]))


@part("backbones")
class ResidualMerging(Transition):
    """pool(x) + conv(norm(x)) of stride 2, the pooled map filled up with channels of zeros (Liao et al., ViT-ResNAS, 2021,
    section 3.1). Leading tokens have a linear map in the place of the convolution, and pass unpooled.
    """

    leading = True

    def __init__(self, width: int, to: int, *, norm: Spec[Norm] = spec(LayerNorm)) -> None:  # noqa: B008
        super().__init__()
        if to < width:
            raise ValueError(f"channels of zeros are put to {width}, which cannot become {to}; give a wider stage")
        self.norm = self.make("norm", norm, width)
        self.project = nn.Conv2d(width, to, 3, 2, 1)
        self.lead = nn.Linear(width, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on half the grid, the leading ones before them."""
        normed = tokens.update(self.norm(tokens.values))
        merged = as_tokens(self.project(as_map(normed)))
        pooled = F.avg_pool2d(as_map(tokens), 2, ceil_mode=True).flatten(2).mT
        filled = self.project.out_channels - tokens.width
        leading = tokens.values[:, : tokens.prefix]
        lead = self.lead(normed.values[:, : tokens.prefix]) + F.pad(leading, (0, filled))
        return _led(merged.update(merged.values + F.pad(pooled, (0, filled))), lead)


@part("backbones")
class StridedBottleneck(Transition):
    """pool(x) + MBConv(norm(x)) of stride 2, the pooled map through a linear map where its width changes
    (Tu et al., MaxViT, 2022, section 3.3).
    """

    def __init__(
        self,
        width: int,
        to: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        squeeze: float = 0.25,
        activation: str = "gelu",
        norm: Spec[Norm] = spec(BatchNorm),  # noqa: B008
        eps: float = 1e-5,
        branches: tuple[Spec[Branch], ...] = (),
    ) -> None:
        super().__init__()
        self.norm = self.make("norm", norm, width)
        self.inner = Bottleneck(
            width, to, ratio=ratio, kernel=kernel, stride=2, squeeze=squeeze, activation=activation, eps=eps
        )
        self.project = nn.Linear(width, to) if width != to else None
        self.branches = self.make("branches", branches, to)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on half the grid."""
        context = context or Context()
        pooled = as_tokens(F.avg_pool2d(same(as_map(tokens), 2, 2), 2))
        if self.project is not None:
            pooled = pooled.update(self.project(pooled.values))
        normed = tokens.update(normalise(self.norm, tokens))
        update = as_tokens(self.inner(as_map(normed))).values
        for branch in self.branches:
            update = branch(update, pooled, context)
        return pooled.update(pooled.values + update)


def _led(tokens: Tokens, leading: Tensor) -> Tokens:
    """The tokens with those of each sample in front."""
    count = leading.shape[1]
    assert tokens.positions is not None
    places = F.pad(tokens.positions, (0, 0, count, 0))
    return tokens.replace(values=torch.cat((leading, tokens.values), 1), positions=places, prefix=count)
