"""Decoding with long caches: the work of all heads shared out evenly, partial results joined exactly."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.mixers.state import State, merged, state
from everyformer.registry import method


def shares(tiles: Sequence[int], workers: int) -> list[list[tuple[int, int, int]]]:
    """For each worker its (row, first tile, past the last): one line of all tiles of all rows, cut evenly.

    Loads differ by one tile at most; a share may begin and end within a row and span several (section 4.2).
    """
    total = sum(tiles)
    ends = [total * (worker + 1) // workers for worker in range(workers)]
    found: list[list[tuple[int, int, int]]] = []
    row = first = done = 0
    for end in ends:
        mine = []
        while done < end:
            take = min(end - done, tiles[row] - first)
            if take:
                mine.append((row, first, first + take))
            done, first = done + take, first + take
            if first == tiles[row]:
                row, first = row + 1, 0
        found.append(mine)
    return found


@method(
    "lean-attention",
    title="Lean Attention: Hardware-Aware Scalable Attention Mechanism for the Decode-Phase of Transformers",
    authors="Sanovar et al.",
    year=2024,
    arxiv="2405.10480",
    idea="Partial results of softmax join in any order, so all heads and lengths are cut evenly among the workers.",
)
def lean_attention(
    query: Float[Tensor, "B H 1 K"],
    key: Float[Tensor, "B G M K"],
    value: Float[Tensor, "B G M V"],
    *,
    lengths: Sequence[int] | None = None,
    tile: int = 256,
    workers: int = 8,
    scale: float | None = None,
) -> Float[Tensor, "B H 1 V"]:
    """One query a head over a cache of which each sequence has `lengths` keys; the shares run one after the other here."""
    batch, heads, _, width = query.shape
    lengths = [key.shape[2]] * batch if lengths is None else list(lengths)
    if len(lengths) != batch or max(lengths) > key.shape[2]:
        raise BadInput(f"lengths {lengths} for a cache of {batch} sequences of at most {key.shape[2]} keys")
    if tile < 1 or workers < 1:
        raise BadInput(f"tile and workers are at least 1; given {tile} and {workers}")
    scale = width**-0.5 if scale is None else scale
    shared = heads // key.shape[1]
    tiles = [-(-length // tile) for length in lengths for _ in range(heads)]
    partial: list[list[State]] = [[] for _ in tiles]
    for share in shares(tiles, workers):
        for row, first, last in share:
            b, h = divmod(row, heads)
            span = slice(first * tile, min(last * tile, lengths[b]))
            scores = query[b, h] @ key[b, h // shared, span].mT * scale
            partial[row].append(state(scores, value[b, h // shared, span]))
    out = query.new_zeros(batch, heads, 1, value.shape[-1])
    for row, each in enumerate(partial):
        if each:
            out[divmod(row, heads)] = merged(*each).finish()
    return out
