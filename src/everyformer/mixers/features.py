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
from everyformer.mixers.directions import Directions, OrthogonalDirections
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec


class FeatureMap(Part):
    """Base: features of queries and of keys, (B, H, N, F), whose inner products are the weights of attention."""

    def forward(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H N K"],
        places: Shaped[Tensor, "#B N 1"],
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H N F"]]:
        """The features of both, worked once where they are the same."""
        found = self.map(query, places)
        return found, found if key is query else self.map(key, places)

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
    """Base of features along `directions`, of which there are `features`.

    Queries and keys are first divided by K^(1/4), so that their product is that of scaled attention.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        features: int = 256,
        directions: Spec[Directions] = spec(OrthogonalDirections),  # noqa: B008
    ) -> None:
        super().__init__()
        self.width, self.features = width, features
        self.directions: Directions = self.make("directions", directions, width, features)

    def forward(
        self,
        query: Float[Tensor, "B H N K"],
        key: Float[Tensor, "B H N K"],
        places: Shaped[Tensor, "#B N 1"],
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H N F"]]:
        """The features of both, along the same directions, at least in float32."""
        directions = self.directions()
        dtype = torch.promote_types(query.dtype, torch.float32)
        query, key = (x.to(dtype) * self.width**-0.25 for x in (query, key))
        return self.along(query, key, query @ directions.to(dtype).mT, key @ directions.to(dtype).mT)

    def along(self, query: Tensor, key: Tensor, queried: Tensor, keyed: Tensor) -> tuple[Tensor, Tensor]:
        """The features, given the products of queries and keys with the directions."""
        raise NotImplementedError


@part("mixers")
class PositiveFeatures(RandomFeatures):
    """exp(w x - |x|^2 / 2) / sqrt(F): estimates softmax attention without bias (Choromanski et al., Performer, 2021, eq. 5)."""

    def along(self, query: Tensor, key: Tensor, queried: Tensor, keyed: Tensor) -> tuple[Tensor, Tensor]:
        """Those of each query times a number that its normaliser cancels, so that none overflows."""
        scaled = (keyed - key.square().sum(-1, keepdim=True) / 2).exp() * self.features**-0.5
        return (queried - queried.amax(-1, keepdim=True)).exp(), scaled


@part("mixers")
class FourierFeatures(RandomFeatures):
    """cos(w x) and sin(w x) over sqrt(F): estimates a Gaussian kernel (Rahimi and Recht, 2007; Peng et al., RFA, 2021, 2.2)."""

    def along(self, query: Tensor, key: Tensor, queried: Tensor, keyed: Tensor) -> tuple[Tensor, Tensor]:
        """Twice as many as directions; their products can be negative."""
        scale = self.features**-0.5
        query, key = (torch.cat((x.cos(), x.sin()), -1) * scale for x in (queried, keyed))
        return query, key
