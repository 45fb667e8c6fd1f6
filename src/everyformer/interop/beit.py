"""BEiT."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import Mean, PoolHead
from everyformer.interop.config import Config, Key, Labels, Only
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Joined, Keyless, Wrapped
from everyformer.interop.vit import BLOCK, BLOCKS, PICTURE, QKV, SIZES
from everyformer.interop.weights import Pair, layer
from everyformer.norms import LayerNorm
from everyformer.specs import Spec, spec

TABLE = "relative_position_bias.relative_position_bias_table"
"""Of biases by offset."""


def kind(words: bool) -> Only:
    """What a config says of a model that names visual words, or classes."""
    return Only(
        use_absolute_position_embeddings=False,
        use_mean_pooling=True,
        use_mask_token=words,
        use_relative_position_bias=not words,
        use_shared_relative_position_bias=words,
    )


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        Pair("embedding.first", ("embeddings.cls_token",), Wrapped(1)),
        Pair("embedding.masked", ("embeddings.mask_token",), Wrapped(2)),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        Pair(f"{BLOCK}.mixer.qkv.bias", (f"{QKV[0]}.bias", f"{QKV[2]}.bias"), Keyless()),
        *(pair for pair in BLOCKS if not pair.ours.endswith("qkv.bias")),
        *(Pair(f"{BLOCK}.residual.{k}.branches.0.factor", (f"encoder.layer.*.lambda_{k + 1}",)) for k in (0, 1)),
        Pair(
            f"{BLOCK}.mixer.positions.table.weight",
            (f"encoder.layer.*.attention.attention.{TABLE}",),
            Joined(transposed=True),
        ),
        Pair("backbone.positions.table.weight", (f"encoder.{TABLE}",), Joined(transposed=True)),
    ]


EPS = Key("layer_norm_eps", "head.norm.eps", "eps", default=1e-12)


def averaged(config: Config) -> Spec[PoolHead]:
    """The mean of the patches, normalised."""
    return spec(PoolHead, pool=spec(Mean), norm=spec(LayerNorm, eps=config.value("layer_norm_eps", 1e-12)))


register(
    Family(
        name="beit",
        system="beit",
        settings=(
            *SIZES,
            *PICTURE,
            Key("layer_scale_init_value", f"{BLOCK}.residual.branches.0.start", "scale", default=0.1),
        ),
        table=table,
        prefix="beit",
        tops={
            "BeitForImageClassification": Top(
                settings=(
                    kind(False),
                    Labels("head.classes"),
                    EPS,
                ),
                table=(*layer("head.norm", "beit.pooler.layernorm"), *layer("head.classify", "classifier")),
            ),
            "BeitForMaskedImageModeling": Top(
                settings=(
                    kind(True),
                    Key("vocab_size", "head.outputs", "visual_words"),
                    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-12),
                ),
                table=(*layer("backbone.norm", "layernorm"), *layer("head.project", "lm_head")),
            ),
            "BeitModel": Top(
                head=averaged,
                settings=(kind(False), EPS),
                table=(*layer("head.norm", "pooler.layernorm"), *layer("head.norm", "beit.pooler.layernorm")),
                prefix="",
            ),
        },
        unused=("*.relative_position_index",),
    )
)
