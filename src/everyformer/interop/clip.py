"""CLIP, both towers."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop.config import Depth, Key, Square, Within
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following, Leading
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.siglip import blocks
from everyformer.interop.weights import Pair, layer

PICTURE, TEXT = "picture.backbone.blocks", "text.backbone.blocks"


def table(design: Design) -> list[Pair]:
    """Both towers."""
    picture, text = "vision_model", "text_model"
    places = f"{picture}.embeddings.position_embedding.weight"
    return [
        Pair("picture.embedding.first", (f"{picture}.embeddings.class_embedding", places), Leading(bare=True)),
        Pair("picture.embedding.positions.table", (places,), Following(1)),
        *layer("picture.embedding.project", f"{picture}.embeddings.patch_embedding"),
        *layer("picture.embedding.norm", f"{picture}.pre_layrnorm"),
        *blocks(PICTURE, f"{picture}.encoder.layers"),
        *layer("picture.head.norm", f"{picture}.post_layernorm"),
        *layer("picture.head.project", "visual_projection", bias=False),
        *layer("text.embedding.table", f"{text}.embeddings.token_embedding", bias=False),
        *layer("text.embedding.positions.table", f"{text}.embeddings.position_embedding", bias=False),
        *blocks(TEXT, f"{text}.encoder.layers"),
        *layer("text.backbone.norm", f"{text}.final_layer_norm"),
        *layer("text.head.project", "text_projection", bias=False),
        Pair("scale", ("logit_scale",)),
    ]


register(
    Family(
        name="clip",
        system="clip",
        settings=(
            Within(
                "vision_config",
                (
                    Square("image_size", "picture.embedding.image", "image", default=224),
                    Square("patch_size", "picture.embedding.patch", "patch", default=32),
                    Key("num_channels", "picture.embedding.channels", "channels", default=3),
                    Key("hidden_size", "picture.width", "width", default=768),
                    Key("intermediate_size", f"{PICTURE}.0.feedforward.hidden", "hidden", default=3072),
                    Depth("num_hidden_layers", PICTURE, default=12),
                    Key("num_attention_heads", f"{PICTURE}.0.mixer.heads", "heads", default=12),
                    Key("hidden_act", f"{PICTURE}.0.feedforward.activation", "activation", ACTIVATIONS, "quick_gelu"),
                    Key("layer_norm_eps", "picture.embedding.norm.eps", "eps", default=1e-5),
                ),
            ),
            Within(
                "text_config",
                (
                    Key("vocab_size", "text.embedding.vocabulary", "vocabulary", default=49408),
                    Key("max_position_embeddings", "text.embedding.positions.length", "length", default=77),
                    Key("hidden_size", "text.width", "text_width", default=512),
                    Key("intermediate_size", f"{TEXT}.0.feedforward.hidden", "text_hidden", default=2048),
                    Depth("num_hidden_layers", TEXT, "text_depth", default=12),
                    Key("num_attention_heads", f"{TEXT}.0.mixer.heads", "text_heads", default=8),
                    Key("hidden_act", f"{TEXT}.0.feedforward.activation", "text_activation", ACTIVATIONS, "quick_gelu"),
                    Key("layer_norm_eps", "text.backbone.norm.eps", "text_eps", default=1e-5),
                ),
            ),
            Key("projection_dim", "picture.head.output", "output", default=512),
        ),
        table=table,
        tops={"CLIPModel": Top()},
        unused=("*.position_ids",),
    )
)
