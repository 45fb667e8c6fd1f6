"""iTransformer (Liu et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.embeddings import Variates
from everyformer.feedforward import MLP
from everyformer.heads import ForecastHead
from everyformer.mixers import Attention
from everyformer.models import Model
from everyformer.norms import LayerNorm, PostNorm, ReversibleInstance
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "itransformer",
    title="iTransformer: Inverted Transformers Are Effective for Time Series Forecasting",
    authors="Liu et al.",
    year=2024,
    arxiv="2310.06625",
    idea="Make the whole look-back of each variate one token: attention mixes variates, the feedforward models time.",
    tasks=("forecasting",),
    default="base",
    sizes={
        "tiny": {"width": 128, "hidden": 128, "depth": 2},
        "small": {"width": 256, "hidden": 256, "depth": 2},
        "base": {"width": 512, "hidden": 512, "depth": 3},
        "large": {"width": 512, "hidden": 512, "depth": 4},
    },
)
def itransformer(
    *,
    lookback: int = 96,
    horizon: int = 96,
    variates: int = 7,
    width: int = 512,
    hidden: int = 512,
    depth: int = 3,
    heads: int = 8,
    dropout: float = 0.1,
) -> Design:
    """Section 3.1; sizes as the official scripts have them for ETTh2, ETTh1, electricity and weather, and traffic.

    The model takes any number of variates; `variates` is what an example has.
    """
    block = spec(
        Block,
        mixer=spec(Attention, heads=heads, dropout=dropout),
        feedforward=spec(MLP, hidden=hidden, activation="gelu", dropout=dropout),
        residual=spec(PostNorm, dropout=dropout),
    )
    return Design(
        spec(
            Model,
            width=width,
            reversible=spec(ReversibleInstance),
            embedding=spec(Variates, lookback=lookback, variates=variates, dropout=dropout),
            backbone=spec(Encoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(ForecastHead, horizon=horizon),
        )
    )
