"""Which tokens of a memory suit each query best: searched one by one, or in an index."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from everyformer.errors import BadInput, EveryformerError
from everyformer.tokens import Tokens

Found = tuple[Float[Tensor, "B H N k"], Int[Tensor, "B H N k"]]
"""The best scores of each head of each query, and where in the memory they are."""
Search = Callable[[Float[Tensor, "B H N D"], Tokens, int], Found]
"""`search(asked, memory, keep)`: products with the memory's tokens (B, M, D), the logarithm of their mass added."""


class ExactSearch:
    """Every token is looked at, `chunk` of them at a time."""

    def __init__(self, chunk: int = 4096) -> None:
        self.chunk = chunk

    def __call__(self, asked: Float[Tensor, "B H N D"], memory: Tokens, keep: int) -> Found:
        """The best `keep`."""
        best = asked.new_empty(*asked.shape[:3], 0)
        where = torch.empty_like(best, dtype=torch.long)
        for start in range(0, memory.count, self.chunk):
            span = slice(start, start + self.chunk)
            scores = (asked.flatten(1, 2) @ memory.values[:, span].mT).unflatten(1, asked.shape[1:3])
            if memory.weights is not None:
                scores = scores + memory.weights[:, None, None, span].clamp(min=1e-6).log()
            if memory.mask is not None:
                scores = scores.masked_fill(~memory.mask[:, None, None, span], torch.finfo(scores.dtype).min)
            top, index = scores.topk(min(keep, scores.shape[-1]), -1)
            best, where = torch.cat((best, top), -1), torch.cat((where, index + start), -1)
            best, chosen = best.topk(min(keep, best.shape[-1]), -1)
            where = where.gather(-1, chosen)
        return best, where


class FaissSearch:
    """Looks in an index of FAISS (Johnson et al., 2019), made once for a memory that all heads and layers share.

    `index` is what FAISS calls a factory string: `Flat` looks at every token, `HNSW32` and `IVF64,Flat` at few. Tokens are
    found by their products alone; scores are formed again for those found, so that gradients reach them. Not for graphs.
    """

    def __init__(self, index: str = "HNSW32") -> None:
        self.index = index
        self.made(1)
        self._of: Callable[[], Tensor | None] = lambda: None
        self._held: list[tuple[Any, Tensor]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> FaissSearch:
        return FaissSearch(self.index)

    def made(self, width: int) -> Any:
        """An empty index of vectors of this width."""
        try:
            import faiss
        except ImportError:
            raise EveryformerError(
                "searching in an index needs FAISS, which is not installed: pip install 'everyformer[retrieval]'"
            ) from None
        try:
            return faiss.index_factory(width, self.index, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError:
            raise BadInput(
                f"FAISS knows no index '{self.index}'; known are such as 'Flat', 'HNSW32' or 'IVF64,Flat'"
            ) from None

    def indices(self, memory: Tokens) -> list[tuple[Any, Tensor]]:
        """The index of each sample's real tokens, and where those stand."""
        if self._of() is not memory.values:
            self._held = []
            for row, values in enumerate(memory.values.detach()):
                real = torch.arange(memory.count) if memory.mask is None else memory.mask[row].nonzero()[:, 0].cpu()
                vectors = values.float().cpu()[real].contiguous().numpy()
                index = self.made(values.shape[-1])
                if len(vectors):
                    index.train(vectors)
                    index.add(vectors)
                self._held.append((index, real))
            self._of = weakref.ref(memory.values)
        return self._held

    @torch.compiler.disable
    def __call__(self, asked: Float[Tensor, "B H N D"], memory: Tokens, keep: int) -> Found:
        """The best `keep` that the index finds."""
        keep, places = min(keep, memory.count), []
        for query, (index, real) in zip(asked.detach(), self.indices(memory), strict=True):
            _, found = index.search(query.flatten(0, 1).float().cpu().contiguous().numpy(), keep)
            rows = torch.from_numpy(found)
            spread = torch.cat((real, real.new_full((1,), -1)))[rows]
            places.append(spread.unflatten(0, query.shape[:2]))
        where = torch.stack(places).to(asked.device)
        missing, where = where < 0, where.clamp(min=0)
        samples = torch.arange(memory.batch, device=where.device)[:, None, None, None]
        scores = (asked[..., None, :] @ memory.values[samples, where].mT)[..., 0, :]
        if memory.weights is not None:
            scores = scores + memory.weights[samples, where].clamp(min=1e-6).log()
        return scores.masked_fill(missing, torch.finfo(scores.dtype).min), where
