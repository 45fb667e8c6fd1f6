"""Pairs of things, as detectors tell them, into Tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Embedding
from everyformer.dropout import Dropout
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens

PLACE_DROPOUT = 0.1


@part("embeddings")
class PairPatches(Embedding):
    """Patches of what two things look like and how far away they are, a token of where both are and one of what both are
    (Sudhakaran et al., VETO, 2023, section 3.2, and their code).

    The maps of a thing are those of its box, of `channels` channels and `side` cells a side; in a patch stand subject and
    object, and of the width `depth_width` is for the distances. A learned token stands in front, and one learned
    vector is added to all, as in the authors' code.
    """

    def __init__(
        self,
        width: int,
        *,
        channels: int = 256,
        depth_channels: int = 256,
        side: int = 8,
        patch: int = 2,
        depth_width: int = 512,
        kinds: int = 151,
        words: int = 200,
        place_width: int = 128,
        dropout: float = 0.35,
    ) -> None:
        super().__init__()
        if not 0 < depth_width < width:
            raise ValueError(f"depth_width is a part of the width {width}; given {depth_width}")
        if side % patch:
            raise ValueError(f"side {side} is not a multiple of patch {patch}")
        self.channels, self.depth_channels, self.side, self.patch, self.vocabulary = (
            channels, depth_channels, side, patch, kinds,
        )  # fmt: skip
        self.depth = nn.Linear(2 * depth_channels * patch**2, depth_width)
        self.looks = nn.Linear(2 * channels * patch**2, width - depth_width)
        self.box_norm = nn.BatchNorm1d(4, momentum=0.001)
        self.box = nn.Linear(4, place_width)
        self.box_dropout = Dropout(PLACE_DROPOUT)
        self.where = nn.Linear(2 * place_width, width)
        self.words = nn.Embedding(kinds, words)
        self.kinds = nn.Linear(2 * words, width)
        self.first = nn.Embedding(1, width)
        self.shared = nn.Embedding(1, width)
        self.dropout = Dropout(dropout)

    def forward(  # type: ignore[override]
        self,
        inputs: Float[Tensor, "B 2 C Y X"],
        context: Context | None = None,
        *,
        depth: Float[Tensor, "B 2 E Y X"],
        boxes: Float[Tensor, "B 2 4"],
        kinds: Int[Tensor, "B 2"],
    ) -> Tokens:
        """Tokens of pairs; boxes are centre and size, as shares of the picture's."""
        wanted = 2, self.channels, self.side, self.side
        if inputs.shape[1:] != wanted or depth.shape[1:] != (2, self.depth_channels, self.side, self.side):
            raise BadInput(
                f"expected maps of pairs of {wanted} and depths of {self.depth_channels} channels; "
                f"given {tuple(inputs.shape[1:])} and {tuple(depth.shape[1:])}"
            )
        looks, far = self.looks(self.cut(inputs)), self.depth(self.cut(depth.to(inputs.dtype)))
        box = self.box_dropout(F.relu(self.box(self.box_norm(boxes.to(inputs.dtype).flatten(0, 1)))))
        place = F.relu(self.where(box.unflatten(0, (-1, 2)).flatten(1)))
        named = F.relu(self.kinds(self.words(kinds).flatten(1)))
        only = kinds.new_zeros(1)
        first = self.first(only).expand(inputs.shape[0], 1, -1)
        values = torch.cat((first, torch.cat((far, looks), -1), place[:, None], named[:, None]), 1)
        return Tokens(self.dropout(values + self.shared(only)), prefix=1)

    def cut(self, maps: Float[Tensor, "B 2 C Y X"]) -> Float[Tensor, "B N E"]:
        """The patches of both maps side by side, row, column and channel after each other."""
        cells = maps.flatten(1, 2).unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """Maps of zeros."""
        sides = self.side, self.side
        return {
            "inputs": torch.zeros(batch, 2, self.channels, *sides),
            "depth": torch.zeros(batch, 2, self.depth_channels, *sides),
            "boxes": torch.zeros(batch, 2, 4),
            "kinds": torch.zeros(batch, 2, dtype=torch.long),
        }
