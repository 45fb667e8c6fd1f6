"""EDAFormer (Yu et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import ConvMerging, Encoder, MeanMerging
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.heads import AttentiveDecoder
from everyformer.mixers import ConvMLP, EmbeddingFree
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm
from everyformer.published.pyramids import pre_norm, pyramid, same_length
from everyformer.registry import system
from everyformer.specs import Spec, spec


@system(
    "edaformer",
    title="Embedding-Free Transformer with Inference Spatial Reduction for Efficient Semantic Segmentation",
    authors="Yu et al.",
    year=2024,
    arxiv="2407.17261",
    idea="Attention without maps of queries, keys and values, whose keys may be pooled further once it is trained.",
    tasks=("segmentation",),
    default="tiny",
    sizes={
        "tiny": {},
        "base": {
            "widths": (64, 128, 256, 512), "depths": (3, 3, 22, 3), "ratio": 4.0, "decoder_ratio": 1.0, "hidden": 768,
        },
    },
)  # fmt: skip
def edaformer(
    *,
    classes: int = 150,
    image: int = 512,
    channels: int = 3,
    widths: tuple[int, ...] = (32, 64, 128, 256),
    depths: tuple[int, ...] = (2, 2, 10, 2),
    heads: tuple[int, ...] = (1, 2, 4, 8),
    ratio: float = 3.8,
    pools: tuple[int, ...] = (8, 4, 2, 1),
    decoder_depths: tuple[int, ...] = (1, 2, 3),
    decoder_ratio: float = 2.0,
    decoder_pools: tuple[int, ...] = (4, 2, 1),
    hidden: int = 128,
    head_dropout: float = 0.1,
    drop_path: float = 0.2,
    decoder_drop_path: float = 0.1,
    eps: float = 1e-6,
) -> Design:
    """Section 3: the decoder attends in the last stages, more in the coarser ones; the answer has an eighth of the
    picture's resolution.

    `pools` and `decoder_pools` are by how much the keys of each stage are coarser. Weights do not depend on them:
    after training they may be larger (section 3.3, inference spatial reduction).
    """
    same_length(widths=widths, depths=depths, heads=heads, pools=pools)
    same_length(decoder_depths=decoder_depths, decoder_pools=decoder_pools)
    norm, skipped = spec(LayerNorm, eps=eps), len(depths) - len(decoder_depths)

    def block(stage: int, index: int, rate: float) -> Spec[Backbone]:
        mixer = spec(EmbeddingFree, heads=heads[stage], reduce=spec(MeanMerging, size=pools[stage]))
        return pre_norm(mixer, spec(ConvMLP, ratio=ratio, before="relu"), norm, rate)

    def body(level: int) -> Spec[Backbone]:
        pooled = spec(MeanMerging, size=decoder_pools[level], norm=spec(LayerNorm), activation="gelu")
        mixer = spec(EmbeddingFree, heads=heads[skipped + level], reduce=pooled)
        each = pre_norm(mixer, spec(ConvMLP, ratio=decoder_ratio), spec(LayerNorm), decoder_drop_path)
        return spec(Encoder, blocks=(each,) * decoder_depths[level])

    levels = tuple(range(skipped, len(depths)))
    enter = spec(ConvMerging, kernel=3, stride=2, padding=1, norm=spec(LayerNorm))
    return Design(
        spec(
            Model,
            width=widths[0],
            embedding=spec(OverlapPatches, channels=channels, image=image, norm=spec(LayerNorm)),
            backbone=pyramid(
                widths, depths, block, enter=enter, drop_path=drop_path, more=lambda stage: {"norm": norm}
            ),
            head=spec(
                AttentiveDecoder,
                classes=classes,
                bodies=tuple(map(body, range(len(levels)))),
                hidden=hidden,
                dropout=head_dropout,
                levels=levels,
            ),
            start=spec(Normal),
        )
    )  # fmt: skip
