"""CLIP, both towers or one of them."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop.config import Depth, Inner, Key, Square, Within
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following, Leading
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.siglip import CLASSIFIES, blocks
from everyformer.interop.weights import Pair, layer
from everyformer.published.clip import picture_tower, text_tower, towers

BLOCK = "backbone.blocks.0"
PICTURE = (
    Square("image_size", "embedding.image", "image", default=224),
    Square("patch_size", "embedding.patch", "patch", default=32),
    Key("num_channels", "embedding.channels", "channels", default=3),
    Key("hidden_size", "width", "width", default=768),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden", default=3072),
    Depth("num_hidden_layers", "backbone.blocks", default=12),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads", default=12),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "quick_gelu"),
    Key("layer_norm_eps", "embedding.norm.eps", "eps", default=1e-5),
)
TEXT = (
    Key("vocab_size", "embedding.vocabulary", "vocabulary", default=49408),
    Key("max_position_embeddings", "embedding.positions.length", "length", default=77),
    Key("hidden_size", "width", "width", default=512),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden", default=2048),
    Depth("num_hidden_layers", "backbone.blocks", default=12),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads", default=8),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "quick_gelu"),
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-5),
)
OUTPUT = Key("projection_dim", "head.output", "output", default=512)


def picture(design: Design | None = None) -> list[Pair]:
    """The picture tower."""
    places = "embeddings.position_embedding.weight"
    return [
        Pair("embedding.first", ("embeddings.class_embedding", places), Leading(bare=True)),
        Pair("embedding.positions.table", (places,), Following(1)),
        *layer("embedding.project", "embeddings.patch_embedding"),
        *layer("embedding.norm", "pre_layrnorm"),
        *blocks("backbone.blocks", "encoder.layers"),
        *layer("head.norm", "post_layernorm"),
    ]


def text(design: Design | None = None) -> list[Pair]:
    """The text tower."""
    return [
        *layer("embedding.table", "embeddings.token_embedding", bias=False),
        *layer("embedding.positions.table", "embeddings.position_embedding", bias=False),
        *blocks("backbone.blocks", "encoder.layers"),
        *layer("backbone.norm", "final_layer_norm"),
    ]


def table(design: Design) -> list[Pair]:
    """Both towers."""
    return [
        *(pair.inside("picture").under("vision_model.") for pair in picture()),
        *layer("picture.head.project", "visual_projection", bias=False),
        *(pair.inside("text").under("text_model.") for pair in text()),
        *layer("text.head.project", "text_projection", bias=False),
        Pair("scale", ("logit_scale",)),
    ]


register(
    Family(
        name="clip",
        system="clip",
        make=towers,
        settings=(
            Inner("vision_config", "picture", PICTURE),
            Inner("text_config", "text", TEXT),
            Key("projection_dim", "picture.head.output", default=512),
            Key("projection_dim", "text.head.output", default=512),
        ),
        table=table,
        tops={"CLIPModel": Top()},
        unused=("*.position_ids",),
    )
)
register(
    Family(
        name="clip",
        system="clip",
        make=picture_tower,
        settings=(Within("vision_config", PICTURE),),
        table=picture,
        prefix="vision_model",
        tops={"CLIPForImageClassification": Top(**CLASSIFIES, unused=("vision_model.post_layernorm.*",))},
    )
)
register(
    Family(
        name="clip_vision_model",
        system="clip",
        make=picture_tower,
        settings=PICTURE,
        table=picture,
        prefix="vision_model",
        tops={
            "CLIPVisionModel": Top(prefix=""),
            "CLIPVisionModelWithProjection": Top(
                settings=(OUTPUT,), table=(*layer("head.project", "visual_projection", bias=False),)
            ),
        },
    )
)
register(
    Family(
        name="clip_text_model",
        system="clip",
        make=text_tower,
        settings=TEXT,
        table=text,
        prefix="text_model",
        tops={
            "CLIPTextModel": Top(prefix=""),
            "CLIPTextModelWithProjection": Top(
                settings=(OUTPUT,), table=(*layer("head.project", "text_projection", bias=False),)
            ),
        },
    )
)
