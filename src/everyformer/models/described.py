"""A model that finds things in a picture and says something of each."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding
from everyformer.errors import BadInput
from everyformer.heads.regions import Regions
from everyformer.models.model import Model
from everyformer.models.prefixed import Prefixed
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec


@part("models")
class Described(Model):
    """A model whose head finds regions, and a `describer` that is shown each of them, on a grid of `side` cells a side, as a
    picture of its own: no region knows of another (Wu et al., GRiT, 2022, section 3).

    It answers with the regions; `generation.describe` says what they are.
    """

    head: Regions

    def __init__(
        self,
        *,
        width: int,
        embedding: Spec[Embedding],
        backbone: Spec[Backbone],
        head: Spec[Regions],
        describer: Spec[Prefixed],
        side: int = 14,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__(width=width, embedding=embedding, backbone=backbone, head=head, start=start)
        self.side = side
        self.describer: Prefixed = self.make("describer", describer)

    def shown(self, context: Context, boxes: Float[Tensor, "B N 4"]) -> Float[Tensor, "B N C side side"]:
        """What the describer is shown of regions (corners, as shares), after a pass with this context."""
        if not context.levels:
            raise BadInput("regions are shown on the maps of a pass; give that Context(levels={})")
        maps = self.head.maps([*context.levels.values()][-1], context)
        return self.head.look(maps, boxes, self.side)
