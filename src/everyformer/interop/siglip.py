"""SigLIP, both towers or one of them."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.heads import ClassHead, Mean
from everyformer.interop.config import Config, Depth, Inner, Key, Labels, Square, Within, Written, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Rows, Squeezed, Wrapped
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.pyramids import CHANNELS
from everyformer.interop.vit import BLOCK
from everyformer.interop.weights import Pair, layer
from everyformer.published.siglip import text_tower, towers
from everyformer.specs import Spec, spec

SIZES = (
    Key("hidden_size", "width", "width", default=768),
    Depth("num_hidden_layers", "backbone.blocks", default=12),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads", default=12),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden", default=3072),
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-6),
    Key("attention_dropout", f"{BLOCK}.mixer.dropout", default=0.0),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu_pytorch_tanh"),
)
"""What both towers say."""
PICTURE = (
    *SIZES,
    Square("image_size", "embedding.image", "image", default=224),
    Square("patch_size", "embedding.patch", "patch", default=16),
    CHANNELS,
)
POOLED = (
    *PICTURE,
    Key("hidden_act", "head.pool.feedforward.activation", None, ACTIVATIONS, "gelu_pytorch_tanh"),
)
TEXT = (
    *SIZES,
    Key("vocab_size", "embedding.vocabulary", "vocabulary", default=32000),
    Key("max_position_embeddings", "embedding.positions.length", "length", default=64),
    Key("projection_size", "head.output", "output", default=None),
)


def blocks(ours: str, theirs: str) -> list[Pair]:
    """The blocks of a tower, of SigLIP or of CLIP."""
    return [
        *layer(f"{ours}.*.mixer.qkv", *(f"{theirs}.*.self_attn.{name}_proj" for name in "qkv")),
        *layer(f"{ours}.*.mixer.output", f"{theirs}.*.self_attn.out_proj"),
        *layer(f"{ours}.*.feedforward.up", f"{theirs}.*.mlp.fc1"),
        *layer(f"{ours}.*.feedforward.down", f"{theirs}.*.mlp.fc2"),
        *layer(f"{ours}.*.residual.0.norm", f"{theirs}.*.layer_norm1"),
        *layer(f"{ours}.*.residual.1.norm", f"{theirs}.*.layer_norm2"),
    ]


def patches(design: Design | None = None) -> list[Pair]:
    """The body of the picture tower."""
    return [
        Pair("embedding.positions.table", ("embeddings.position_embedding.weight",)),
        *layer("embedding.project", "embeddings.patch_embedding"),
        *blocks("backbone.blocks", "encoder.layers"),
        *layer("backbone.norm", "post_layernorm"),
    ]


def picture(design: Design | None = None) -> list[Pair]:
    """The picture tower; in its pool queries stand in one tensor with keys and values."""
    packed = [f"head.attention.in_proj_{kind}" for kind in ("weight", "bias")]
    return [
        *patches(),
        Pair("head.pool.probe", ("head.probe",), Wrapped(1)),
        Pair("head.pool.mixer.query.weight", (packed[0],), Rows(0, 1, 3)),
        Pair("head.pool.mixer.query.bias", (packed[1],), Rows(0, 1, 3)),
        Pair("head.pool.mixer.key_value.weight", (packed[0],), Rows(1, 3, 3)),
        Pair("head.pool.mixer.key_value.bias", (packed[1],), Rows(1, 3, 3)),
        *layer("head.pool.mixer.output", "head.attention.out_proj"),
        *layer("head.pool.norm", "head.layernorm"),
        *layer("head.pool.feedforward.up", "head.mlp.fc1"),
        *layer("head.pool.feedforward.down", "head.mlp.fc2"),
    ]


def text(design: Design | None = None) -> list[Pair]:
    """The text tower."""
    return [
        *layer("embedding.table", "embeddings.token_embedding", bias=False),
        *layer("embedding.positions.table", "embeddings.position_embedding", bias=False),
        *blocks("backbone.blocks", "encoder.layers"),
        *layer("backbone.norm", "final_layer_norm"),
        *layer("head.project", "head"),
    ]


def table(design: Design) -> list[Pair]:
    """Both towers."""
    return [
        *(pair.inside("picture").under("vision_model.") for pair in picture()),
        *(pair.inside("text").under("text_model.") for pair in text()),
        Pair("scale", ("logit_scale",), Squeezed(0)),
        Pair("shift", ("logit_bias",), Squeezed(0)),
    ]


def classes(config: Config) -> Spec[ClassHead]:
    """A class read from the mean of the patches."""
    return spec(ClassHead, classes=len(labels(config)), pool=spec(Mean))


CLASSIFIES: dict[str, Any] = {
    "head": classes,
    "settings": (Labels("head.classes", "head.classes"),),
    "table": (*layer("head.classify", "classifier"),),
}
"""What a picture tower has on top that classifies, of SigLIP or of CLIP."""
register(
    Family(
        name="siglip",
        system="siglip",
        make=towers,
        settings=(Inner("vision_config", "picture", POOLED), Inner("text_config", "text", TEXT)),
        table=table,
        tops={"SiglipModel": Top()},
    )
)
register(
    Family(
        name="siglip",
        system="siglip",
        settings=(Within("vision_config", (*PICTURE, Written(vision_use_head=False))),),
        table=patches,
        prefix="vision_model",
        tops={"SiglipForImageClassification": Top(**CLASSIFIES, unused=("vision_model.head.*",))},
    )
)
register(
    Family(
        name="siglip_vision_model",
        system="siglip",
        settings=POOLED,
        table=picture,
        prefix="vision_model",
        only={"vision_use_head": True},
        tops={"SiglipVisionModel": Top(prefix="")},
    )
)
register(
    Family(
        name="siglip_vision_model",
        system="siglip",
        settings=PICTURE,
        table=patches,
        prefix="vision_model",
        only={"vision_use_head": False},
        tops={"SiglipVisionModel": Top(head=lambda config: None, prefix="")},
    )
)
register(
    Family(
        name="siglip_text_model",
        system="siglip",
        make=text_tower,
        settings=TEXT,
        table=text,
        prefix="text_model",
        tops={"SiglipTextModel": Top(prefix="")},
    )
)
