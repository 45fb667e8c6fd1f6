"""Feature maps: functions whose products of queries and keys stand in for the weights of attention.

Each is built with the width of one head and the number of heads.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import BadInput
from everyformer.registry import Part, part


class FeatureMap(Part):
    """Base: features of queries and of keys, (B, H, N, F), whose inner products are the weights of attention."""

    def forward(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H N K"],
        places: Shaped[Tensor, "#B N 1"],
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H N F"]]:
        """The features of both."""
        return self.query(query, places), self.key(key, places)

    def query(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """The features of queries."""
        return self.map(x, places)

    def key(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """The features of keys."""
        return self.map(x, places)

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """The features of both, where they are the same function."""
        raise NotImplementedError


@part("mixers")
class EluFeatures(FeatureMap):
    """elu(x) + 1 (Katharopoulos et al., 2020, equation 7)."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N K"]:
        """Positive features."""
        return F.elu(x) + 1


@part("mixers")
class ReluFeatures(FeatureMap):
    """max(x, 0) (Qin et al., cosFormer, 2022, equation 6)."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N K"]:
        """Features that are not negative."""
        return F.relu(x)


@part("mixers")
class CosineFeatures(FeatureMap):
    """relu(x) twice, times cos(pi i / 2M) and sin(pi i / 2M): near tokens count more (Qin et al., cosFormer, 2022, eq. 10).

    M is `length`, which no sequence may exceed: further apart than that, weights would be negative.
    """

    capabilities = frozenset({"ordered"})

    def __init__(self, width: int, heads: int = 1, *, length: int = 1024) -> None:
        super().__init__()
        self.length = length

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """Features that turn with the place."""
        if x.shape[2] > self.length:
            raise BadInput(
                f"{x.shape[2]} tokens, and CosineFeatures reweights {self.length}; build with a larger length"
            )
        angle = (math.pi / (2 * self.length)) * places[:, None].to(x.dtype)
        kept = F.relu(x)
        return torch.cat((kept * angle.cos(), kept * angle.sin()), -1)


class RandomFeatures(FeatureMap):
    """Base of features drawn at random: directions (F, K), in blocks that are orthogonal where `orthogonal`.

    Queries and keys are first divided by K^(1/4), so that their product is that of scaled attention.
    """

    directions: Tensor

    def __init__(self, width: int, heads: int = 1, *, features: int = 256, orthogonal: bool = True) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"the number of features is at least 1; given {features}")
        self.width, self.features, self.orthogonal = width, features, orthogonal
        self.register_buffer("directions", self.draw())

    def draw(self, generator: torch.Generator | None = None) -> Float[Tensor, "F K"]:
        """Fresh directions, each normal."""
        blocks = -(-self.features // self.width)
        normal = torch.randn(blocks, self.width, self.width, generator=generator)
        if self.orthogonal:
            turned, upper = torch.linalg.qr(normal)
            # without these signs no direction is uniform, and positive features are biased (Mezzadri, 2007)
            turned = turned * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None]
            normal = turned.mT * torch.randn(normal.shape, generator=generator).norm(dim=-1, keepdim=True)
        return normal.flatten(0, 1)[: self.features]

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Take fresh directions, as Performers do now and then in training (Choromanski et al., section 4.2)."""
        self.directions.copy_(self.draw(generator))

    def project(self, x: Float[Tensor, "B H N K"]) -> tuple[Float[Tensor, "B H N K"], Float[Tensor, "B H N F"]]:
        """x / K^(1/4), and its product with each direction; at least in float32."""
        x = x.to(torch.promote_types(x.dtype, torch.float32)) * self.width**-0.25
        return x, x @ self.directions.to(x.dtype).mT


@part("mixers")
class PositiveFeatures(RandomFeatures):
    """exp(w x - |x|^2 / 2) / sqrt(F): estimates softmax attention without bias (Choromanski et al., Performer, 2021, eq. 5)."""

    def query(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """Features of queries, each query's times a number that its normaliser cancels: none overflows."""
        _, projected = self.project(x)
        return (projected - projected.amax(-1, keepdim=True)).exp()

    def key(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """Features of keys."""
        x, projected = self.project(x)
        return (projected - x.square().sum(-1, keepdim=True) / 2).exp() * self.features**-0.5


@part("mixers")
class FourierFeatures(RandomFeatures):
    """cos(w x) and sin(w x) over sqrt(F): estimates a Gaussian kernel (Rahimi and Recht, 2007; Peng et al., RFA, 2021, 2.2)."""

    def map(self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N 1"]) -> Float[Tensor, "B H N F"]:
        """Twice as many features as directions; their products can be negative."""
        _, projected = self.project(x)
        return torch.cat((projected.cos(), projected.sin()), -1) * self.features**-0.5
