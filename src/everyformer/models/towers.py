"""Two models side by side whose answers are compared."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.errors import DoesNotFit
from everyformer.models.model import Model, Root
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class TwoTowers(Root):
    """exp(s) times the cosine between each picture's vector and each text's (Radford et al., CLIP, 2021, section 2.3).

    `picture` and `text` are models whose heads answer with one vector; `scale` is where the learned s starts.
    """

    def __init__(
        self,
        *,
        picture: Spec[Model],
        text: Spec[Model],
        scale: float = 2.6592,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        self.picture: Model = self.make("picture", picture)
        self.text: Model = self.make("text", text)
        self.scale = nn.Parameter(torch.tensor(scale))
        for name, tower in (("picture", self.picture), ("text", self.text)):
            if tower.head is None:
                raise DoesNotFit(
                    "a tower answers with one vector; give it a head such as heads.PoolHead", f"{name}.head"
                )
        self.begin(start)

    @property
    def embedding(self) -> Embedding:
        """That of the pictures."""
        return self.picture.embedding

    def forward(
        self,
        inputs: Float[Tensor, "B C Y X"],
        *,
        texts: Int[Tensor, "T N"],
        texts_mask: Bool[Tensor, "T N"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "B T"]:
        """How well each picture goes with each text."""
        context = context or Context()
        pictures = F.normalize(self.picture(inputs, context=context), dim=-1)
        fields = {} if texts_mask is None else {"mask": texts_mask}
        named = F.normalize(self.text(texts, context=context, **fields), dim=-1)
        return self.scale.exp() * pictures @ named.mT

    def features(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> Tokens:
        """The tokens of pictures before their head; what is said of texts is not needed."""
        return self.picture.features(inputs, context=context)

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Pictures and texts of zeros."""
        return {**self.picture.example(batch), "texts": self.text.example(batch)["inputs"]}


@part("models")
class BiasedTowers(TwoTowers):
    """The same plus a learned shift, for an objective that asks of each pair alone whether it belongs together
    (Zhai et al., SigLIP, 2023, section 3.2, where scale and shift start at log 10 and -10).
    """

    def __init__(
        self,
        *,
        picture: Spec[Model],
        text: Spec[Model],
        scale: float = 2.3026,
        shift: float = -10.0,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__(picture=picture, text=text, scale=scale, start=start)
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(
        self,
        inputs: Float[Tensor, "B C Y X"],
        *,
        texts: Int[Tensor, "T N"],
        texts_mask: Bool[Tensor, "T N"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "B T"]:
        """The logit that each picture goes with each text."""
        return super().forward(inputs, texts=texts, texts_mask=texts_mask, context=context) + self.shift
