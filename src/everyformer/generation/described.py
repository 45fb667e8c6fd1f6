"""What is in a picture, region by region, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.boxes import corners
from everyformer.context import Context
from everyformer.generation.generate import evaluating, hypotheses
from everyformer.generation.strategies import Strategy
from everyformer.models import Described, Prefixed


@dataclass(frozen=True)
class Thing:
    """A region and what is said of it."""

    box: tuple[float, float, float, float]
    """Left, top, right and bottom as shares of the picture's sides."""
    tokens: list[int]
    score: float


def describe(
    model: Described,
    inputs: Float[Tensor, "B C Y X"],
    *,
    bos: Sequence[int],
    eos: int,
    pad: int,
    max_tokens: int,
    surest: float = 0.02,
    strategy: Strategy | None = None,
) -> list[list[Thing]]:
    """The things in each picture, the surest first: those regions that are surer than `surest`, and what `strategy` (greedy
    by default) says of each after `bos`, the prompt of a task; each of several hypotheses is a thing.

    The score is the root of how sure a region is times how likely its text is, the geometric mean over its tokens and the
    end (Wu et al., GRiT, 2022, official code).
    """
    with torch.inference_mode(), evaluating(model):
        context = Context(levels={})
        said = model(inputs, context=context)
        sure, boxes = said[..., :2].softmax(-1)[..., 0], corners(said[..., 2:])
        chosen = sure > surest
        found: list[list[Thing]] = [[] for _ in inputs]
        if not chosen.any():
            return found
        shown = model.shown(context, boxes)[chosen]
        options = {"bos": bos, "eos": eos, "pad": pad, "max_tokens": max_tokens, "strategy": strategy}
        texts = hypotheses(model.describer, shown, **options)  # type: ignore[arg-type]
        rows = [row for row, each in enumerate(texts) for _ in each]
        tokens = [one.tokens for each in texts for one in each]
        ended = [[*bos, *each, *([eos] if len(each) < max_tokens else [])] for each in tokens]
        likely = likelihood(model.describer, shown[rows], ended, len(bos))
        scores = (sure[chosen][rows] * likely).sqrt().tolist()
        pictures = chosen.nonzero()[:, 0].tolist()
        places = boxes[chosen].tolist()
        for row, text, score in zip(rows, tokens, scores, strict=True):
            found[pictures[row]].append(Thing(tuple(places[row]), text, score))
        return [sorted(each, key=lambda thing: -thing.score) for each in found]


def likelihood(
    model: Prefixed, sources: Float[Tensor, "N C Y X"], texts: Sequence[Sequence[int]], prompt: int
) -> Float[Tensor, " N"]:
    """How likely each text is, of which the first `prompt` tokens are given: the geometric mean over the others."""
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(each) for each in texts], True).to(sources.device)
    lengths = torch.tensor([len(each) - prompt for each in texts], device=tokens.device)
    logits = model(sources, tokens[:, :-1]).float()
    each = logits[:, prompt - 1 :].log_softmax(-1).gather(2, tokens[:, prompt:, None])[..., 0]
    real = torch.arange(each.shape[1], device=tokens.device) < lengths[:, None]
    return ((each * real).sum(1) / lengths.clamp(min=1)).exp()
