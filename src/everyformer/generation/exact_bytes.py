"""What a model of tokens says of bytes, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import BadInput
from everyformer.registry import method


@method(
    "exact-byte-probabilities",
    title="Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles",
    authors="Phan et al.",
    year=2025,
    arxiv="2410.09303",
    idea="The chance of a next byte is a sum over all tokens that cover it; so a model of tokens goes on from any byte.",
)
@torch.no_grad()
def next_byte(
    model: nn.Module,
    text: bytes,
    *,
    tokens: Sequence[bytes],
    encode: Callable[[bytes], Sequence[int]],
    start: int,
    end: int | None = None,
) -> Float[Tensor, "257"]:
    """How likely each byte comes after `text`, and at place 256 how likely the text ends; they sum to one.

    `tokens` are the bytes of each id (b"" for specials), `encode` is the tokenizer, which must be deterministic. `start`
    and `end` are the ids before and after a text. Sums over the covers of the text (section 3, corollary 1): tokens
    encoded up to some byte, and one that covers the rest; those that the tokenizer would never write count for nothing.
    """
    if not 0 <= start < len(tokens):
        raise BadInput(f"start is an id of the {len(tokens)} tokens; given {start}")
    longest = max(map(len, tokens))
    weight = next(model.parameters(), torch.zeros(()))
    chances = torch.zeros(257, dtype=torch.float64)
    for cut in range(max(0, len(text) - longest + 1), len(text) + 1):
        left, rest = list(encode(text[:cut])), text[cut:]
        if b"".join(tokens[i] for i in left) != text[:cut]:
            continue
        logits = model(torch.tensor([[start, *left]], device=weight.device))[0].double().log_softmax(-1).cpu()
        before = logits[range(len(left)), left].sum() if left else torch.zeros(())
        if cut == len(text) and end is not None:
            chances[256] += (before + logits[-1, end]).exp()
        for each, piece in enumerate(tokens):
            if len(piece) > len(rest) and piece.startswith(rest) and list(encode(text[:cut] + piece)) == [*left, each]:
                chances[piece[len(rest)]] += (before + logits[-1, each]).exp()
    total = chances.sum()
    if total == 0:
        raise BadInput(f"no tokens cover a text that begins with {text!r}; every byte must be a token by itself")
    return chances / total
