"""AtMan: what an answer loses when the attention to an input token is turned down."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.errors import BadInput, DoesNotFit
from everyformer.interpret.attribution import AT_ONCE, Score, first_embedding, repeated
from everyformer.interpret.taps import intervene, points, record
from everyformer.models import Seq2Seq
from everyformer.registry import method


@method(
    "atman",
    title="AtMan: Understanding Transformer Predictions Through Memory Efficient Attention Manipulation",
    authors="Deiseroth et al.",
    year=2023,
    arxiv="2301.08110",
    idea="Turn down the attention to one token, and to those like it, in all layers, and see what the answer loses.",
)
def atman(
    model: nn.Module, batch: Mapping[str, Tensor], score: Score, *, factor: float = 0.1, alike: float | None = None
) -> Float[Tensor, " N"]:
    """What `score` (a log-probability) loses for each token of one sample, without gradients (equations 3 to 6).

    Every row of scores is shifted to begin at 0, then the key of the token is multiplied by `factor`. With `alike`, a
    cosine similarity, tokens whose embeddings are at least as near are turned down with it, by how near they are.
    """
    if len(batch["inputs"]) != 1:
        raise BadInput(f"one sample is explained at a time; given {len(batch['inputs'])}")
    embedding = first_embedding(model)
    with torch.no_grad(), record(model, embedding) as seen:
        whole = score(model(**batch))
    vectors = seen.calls(embedding)[0][0]
    factors = suppression(vectors, factor, alike)
    taps = [path for path in points(model, "**.scores") if not isinstance(model, Seq2Seq) or _over_source(path)]
    lost = []
    for part in factors.split(AT_ONCE):
        with torch.no_grad(), intervene(model, dict.fromkeys(taps, Suppressed(part))):
            lost.append(whole - score(model(**repeated(batch, len(part)))))
    return torch.cat(lost)


def _over_source(path: str) -> bool:
    return path.startswith("encoder.") or ".cross." in path


def suppression(vectors: Float[Tensor, "N D"], factor: float, alike: float | None) -> Float[Tensor, "N N"]:
    """What each key is multiplied by (columns) while each token is turned down (rows)."""
    near = torch.eye(len(vectors), dtype=vectors.dtype, device=vectors.device)
    if alike is not None:
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        cosine = (unit @ unit.mT).clamp(max=1)
        near = torch.maximum(near, torch.where(cosine >= alike, cosine, 0))
    return 1 - near * (1 - factor)


class Suppressed:
    """Scores (B, H, N, M) whose rows begin at 0, each key multiplied by its factor."""

    def __init__(self, factors: Float[Tensor, "B M"]) -> None:
        self.factors = factors

    def __call__(self, scores: Float[Tensor, "B H N M"]) -> Float[Tensor, "B H N M"]:
        """The scores with some keys turned down."""
        if scores.shape[-1] != self.factors.shape[-1]:
            raise DoesNotFit(
                f"attention over {scores.shape[-1]} keys and an input of {self.factors.shape[-1]} tokens; AtMan is for "
                "models that keep all their tokens in every layer"
            )
        return (scores - scores.amin(-1, keepdim=True)) * self.factors[:, None, None]
