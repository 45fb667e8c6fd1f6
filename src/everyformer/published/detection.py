"""Designs in which queries say what a picture shows: things and where they are, DETR (Carion et al., 2020), and HMPE (Zeng, 2025),
whose queries begin where it is hot; one class each, INTR (Paul et al., 2024).
"""

from __future__ import annotations

from everyformer.backbones import Block, ConvMerging, Encoder, Pyramid, Stage
from everyformer.contracts import Residual
from everyformer.designs import Design
from everyformer.embeddings import ResidualStem
from everyformer.feedforward import MLP
from everyformer.heads import BoxQueries, ClassQueries, HeatQueries
from everyformer.mixers import PlacedAttention, PlacedCrossAttention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm
from everyformer.positions import Carried, HeatPlaces, ScaledSinusoidal
from everyformer.published.pyramids import residual_stages
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.specs import Spec, spec


def query_attention(heads: int, dropout: float = 0.0) -> tuple[Spec[PlacedCrossAttention], Spec[PlacedAttention]]:
    """How queries that carry their places look at the cells, and at each other."""
    cells = spec(
        PlacedCrossAttention, heads=heads, memory="cells", places=spec(Carried), memory_places=spec(ScaledSinusoidal),
        dropout=dropout,
    )  # fmt: skip
    return cells, spec(PlacedAttention, heads=heads, places=spec(Carried), dropout=dropout)


def query_decoder(depth: int, heads: int, hidden: int, residual: Spec[Residual], dropout: float = 0.0) -> Spec[Encoder]:
    """Blocks in which queries that carry their places meet each other, then the cells (DETR, figure 10, right)."""
    cells, own = query_attention(heads, dropout)
    mlp = spec(MLP, hidden=hidden, activation="relu", dropout=dropout)
    block = spec(Block, mixer=own, cross=(cells,), feedforward=mlp, residual=residual)
    return spec(Encoder, blocks=(block,) * depth)


@system(
    "detr",
    title="End-to-End Object Detection with Transformers",
    authors="Carion et al.",
    year=2020,
    arxiv="2005.12872",
    idea="Learned queries look at an encoded picture; each says one box or nothing, and a matching tells them apart.",
    tasks=("detection",),
    default="r50",
    sizes={"r50": {}, "r101": {"convs": (3, 4, 23, 3)}},
)
def detr(
    *,
    classes: int = 91,
    image: int = 800,
    channels: int = 3,
    stem: int = 64,
    convs: tuple[int, ...] = (3, 4, 6, 3),
    width: int = 256,
    depth: int = 6,
    decoder_depth: int = 6,
    heads: int = 8,
    hidden: int = 2048,
    queries: int = 100,
    dropout: float = 0.1,
) -> Design:
    """Section 3.2; `convs` are the blocks of each stage of the residual network, whose last stage is encoded."""
    residual = spec(PostNorm, dropout=dropout)
    places = spec(ScaledSinusoidal)
    block = spec(
        Block,
        mixer=spec(PlacedAttention, heads=heads, places=places, dropout=dropout),
        feedforward=spec(MLP, hidden=hidden, activation="relu", dropout=dropout),
        residual=residual,
    )
    encoder = spec(Stage, to=width, enter=spec(ConvMerging, kernel=1, stride=1), blocks=(block,) * depth)
    body = query_decoder(decoder_depth, heads, hidden, residual, dropout)
    return Design(
        spec(
            Model,
            width=stem,
            embedding=spec(ResidualStem, channels=channels, image=image),
            backbone=spec(Pyramid, stages=(*residual_stages(stem, convs), encoder)),
            head=spec(BoxQueries, classes=classes, body=body, norm=spec(LayerNorm), queries=queries),
            start=spec(Xavier),
        )
    )


@system(
    "intr",
    title="A Simple Interpretable Transformer for Fine-Grained Image Classification and Analysis",
    authors="Paul et al.",
    year=2024,
    arxiv="2311.04157",
    idea="Each class is a query that looks for itself in the picture, and one vector shared by all says whether it is there.",
    tasks=("image-classification",),
    default="r50",
    sizes={"r50": {}},
)
@upon(detr, fixed={"queries": 1, "classes": 1})
def intr(design: Design, *, classes: int = 200) -> Design:
    """Section 3.2 on DETR, where cells have positions in the encoder alone, as in the authors' code."""
    head = design.get("head")
    design = design.set("head", spec(ClassQueries, classes=classes, body=head.get("body"), norm=head.get("norm")))
    return design.set("head.body.blocks.*.cross.0.memory_places", None)


@system(
    "hmpe",
    title="HMPE: HeatMap Embedding for Efficient Transformer-Based Small Object Detection",
    authors="Zeng",
    year=2025,
    arxiv="2504.13469",
    idea="How likely a thing is at a cell is part of the cell's place, and says where queries begin, so that few layers are enough.",
    tasks=("detection",),
    default="r50",
    sizes={"r50": {}},
)
@upon(detr, decoder_depth=3, queries=300)
def hmpe(
    design: Design,
    *,
    classes: int = 10,
    queries: int = 300,
    width: int = 256,
    levels: tuple[int, ...] = (-2, -1),
) -> Design:
    """DETR's residual network, of which these `levels` are read, and its blocks; train it by `objectives.HeatBoxes`.

    Three layers of the decoder are the paper's, as are heat in places, heat over levels, queries at its peaks and the convolution
    of lines and snakes; all shapes are read from its description, not from code.
    """
    *convolutions, last = design.get("backbone.stages")
    carried = spec(Carried)
    encoder = spec(
        Encoder, blocks=tuple(block.but(mixer=block.get("mixer").but(places=carried)) for block in last.get("blocks"))
    )
    (cells,) = {block.get("cross")[0] for block in design.get("head.body.blocks")}
    body = design.get("head.body")
    blocks = tuple(block.but(cross=(cells.but(memory_places=carried),)) for block in body.get("blocks"))
    head = spec(
        HeatQueries, classes=classes, encoder=encoder, body=body.but(blocks=blocks), norm=design.get("head.norm"),
        places=spec(HeatPlaces), queries=queries, hidden=width, levels=levels,
    )  # fmt: skip
    return design.set("backbone.stages", tuple(convolutions)).set("head", head)
