"""The picture encoder of SigLIP."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop.config import Depth, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Rows, Wrapped
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import BLOCK, PICTURE
from everyformer.interop.weights import Pair, layer

SETTINGS = (
    *PICTURE,
    Key("hidden_size", "width", "width"),
    Depth("num_hidden_layers", "backbone.blocks"),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden", "hidden"),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu_pytorch_tanh"),
    Key("hidden_act", "head.pool.feedforward.activation", None, ACTIVATIONS, "gelu_pytorch_tanh"),
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-6),
    Key("attention_dropout", f"{BLOCK}.mixer.dropout", default=0.0),
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


def table(design: Design) -> list[Pair]:
    """The body, and the pool, whose queries stand in one tensor with keys and values."""
    packed = [f"head.attention.in_proj_{kind}" for kind in ("weight", "bias")]
    return [
        Pair("embedding.positions.table", ("embeddings.position_embedding.weight",)),
        *layer("embedding.project", "embeddings.patch_embedding"),
        *blocks("backbone.blocks", "encoder.layers"),
        *layer("backbone.norm", "post_layernorm"),
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


register(
    Family(
        name="siglip_vision_model",
        system="siglip",
        settings=SETTINGS,
        table=table,
        prefix="vision_model",
        only={"vision_use_head": True},
        tops={"SiglipVisionModel": Top(prefix="")},
    )
)
