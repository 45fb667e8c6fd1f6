"""Raw bytes into Tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Norm, Position
from everyformer.embeddings.text import Text
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("embeddings")
class Bytes(Text):
    """A learned vector for each byte: ids 0 to 255 are the bytes, `special` more stand after them (Xue et al., ByT5, 2022).

    Takes uint8 tensors too; `Bytes.encode` makes a batch of texts.
    """

    def __init__(
        self,
        width: int,
        *,
        special: int = 0,
        positions: Spec[Position] | None = None,
        scaled: bool = False,
        norm: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            width, vocabulary=256 + special, positions=positions, scaled=scaled, norm=norm, dropout=dropout
        )

    def forward(  # type: ignore[override]
        self,
        inputs: Int[Tensor, "B N"],
        context: Context | None = None,
        *,
        mask: Bool[Tensor, "B N"] | None = None,
        lengths: Int[Tensor, " S"] | None = None,
    ) -> Tokens:
        """Tokens of bytes (B, N), or of packed bytes (1, T) with the `lengths` of the sequences."""
        return super().forward(inputs.long(), context, mask=mask, lengths=lengths)

    @staticmethod
    def encode(texts: list[str] | list[bytes]) -> dict[str, Tensor]:
        """Texts (as UTF-8) or bytes as a batch padded on the right: `inputs` and `mask`."""
        raw = [text.encode() if isinstance(text, str) else text for text in texts]
        longest = max(map(len, raw))
        inputs = torch.tensor([list(each.ljust(longest, b"\0")) for each in raw]).reshape(len(raw), longest)
        mask = torch.arange(longest) < torch.tensor([len(each) for each in raw])[:, None]
        return {"inputs": inputs.long(), "mask": mask}
