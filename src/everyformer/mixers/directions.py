"""Where the directions of random features come from: a fixed law, or one that is learned.

Each is built with the width of a head and the number of directions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.registry import Part, part


class Directions(Part):
    """Base: `forward()` gives the directions (F, K), made of noise that is drawn once and kept with the weights."""

    noise: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"the number of features is at least 1; given {count}")
        self.width, self.count = width, count
        self.register_buffer("noise", self.draw())

    def draw(self, generator: torch.Generator | None = None) -> Float[Tensor, "F K"]:
        """Fresh noise, each number normal."""
        return torch.randn(self.count, self.width, generator=generator)

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Take fresh noise, as Performers do now and then in training (Choromanski et al., 2021, section 4.2)."""
        self.noise.copy_(self.draw(generator))

    def forward(self) -> Float[Tensor, "F K"]:
        """The directions."""
        return self.noise


@part("mixers")
class IndependentDirections(Directions):
    """Independent normal directions (Rahimi and Recht, 2007)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__(width, count)


@part("mixers")
class OrthogonalDirections(Directions):
    """Normal directions in blocks of K that are orthogonal to each other (Choromanski et al., Performer, 2021, section 2.4)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__(width, count)

    def draw(self, generator: torch.Generator | None = None) -> Float[Tensor, "F K"]:
        """Rotations drawn uniformly, each row as long as a normal vector."""
        normal = torch.randn(-(-self.count // self.width), self.width, self.width, generator=generator)
        turned, upper = torch.linalg.qr(normal)
        # without these signs no direction is uniform, and positive features are biased (Mezzadri, 2007)
        turned = turned * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None]
        lengths = torch.randn(normal.shape, generator=generator).norm(dim=-1, keepdim=True)
        return (turned.mT * lengths).flatten(0, 1)[: self.count]


@part("mixers")
class MixtureDirections(Directions):
    """m_c + s_c n with learned means and scales of `components` Gaussians of equal shares (Chowdhury et al., 2022, GMM)."""

    def __init__(self, width: int, count: int, *, components: int = 4) -> None:
        super().__init__(width, count)
        self.means = nn.Parameter(torch.zeros(components, width))
        self.scales = nn.Parameter(torch.zeros(components, width))

    def forward(self) -> Float[Tensor, "F K"]:
        """The directions, the components in turn."""
        component = torch.arange(self.count, device=self.noise.device) % len(self.means)
        return self.means[component] + self.scales[component].exp() * self.noise


@part("mixers")
class GeneratedDirections(Directions):
    """A small network of the noise (Chowdhury et al., 2022, Generative)."""

    def __init__(self, width: int, count: int, *, hidden: int = 64) -> None:
        super().__init__(width, count)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(), nn.Linear(hidden, width))

    def forward(self) -> Float[Tensor, "F K"]:
        """The directions."""
        return self.network(self.noise)


@part("mixers")
class FastfoodDirections(Directions):
    """Rows of S H G P H B / sqrt(d), H Hadamard's matrix, P a permutation, S, G and B learned diagonals (Chowdhury et al.,
    2022, FastFood; Le et al., 2013, equation 7), in blocks of d, the least power of two that holds a head.
    """

    order: Tensor

    def __init__(self, width: int, count: int) -> None:
        super().__init__(width, count)
        size = 2 ** math.ceil(math.log2(width))
        blocks = -(-count // size)
        self.register_buffer("order", torch.stack([torch.randperm(size) for _ in range(blocks)]))
        self.signs = nn.Parameter(torch.randint(0, 2, (blocks, size)) * 2.0 - 1)
        self.normals = nn.Parameter(torch.randn(blocks, size))
        lengths = torch.randn(blocks, size, size).norm(dim=-1)
        self.lengths = nn.Parameter(lengths / self.normals.detach().norm(dim=-1, keepdim=True))

    def draw(self, generator: torch.Generator | None = None) -> Float[Tensor, "F K"]:
        """No noise but that of the diagonals."""
        return torch.empty(0, self.width)

    def forward(self) -> Float[Tensor, "F K"]:
        """The directions."""
        size = self.order.shape[-1]
        matrix = hadamard(size).to(self.signs)
        right = (matrix * self.signs[:, None]).gather(1, self.order[..., None].expand(-1, -1, size))
        left = self.lengths[..., None] * matrix * self.normals[:, None]
        return (left @ right * size**-0.5).flatten(0, 1)[: self.count, : self.width]


def hadamard(size: int) -> Float[Tensor, "N N"]:
    """The matrix of 1 and -1 with orthogonal rows, for a power of two (Sylvester, 1867)."""
    found = torch.ones(1, 1)
    while len(found) < size:
        found = torch.cat((torch.cat((found, found), 1), torch.cat((found, -found), 1)))
    return found
