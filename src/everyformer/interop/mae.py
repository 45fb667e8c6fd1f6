"""Masked autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.grids import places_of
from everyformer.interop.config import Config, Custom, Depth, Key, Written
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Wrapped
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.vit import BLOCK, BLOCKS, PICTURE
from everyformer.interop.weights import Pair, layer
from everyformer.models import Model
from everyformer.published.mae import vit_mae
from everyformer.published.upon import upon
from everyformer.specs import spec
from everyformer.tokens import Tokens

NARROW = "decoder.blocks.*"


def narrow(config: Config) -> dict[str, Any]:
    """Nothing; the decoder's MLPs are four times as wide as its tokens, and biases are everywhere."""
    config.only({"decoder_intermediate_size": 4 * config.value("decoder_hidden_size"), "qkv_bias": True})
    return {}


def sines(path: str) -> Callable[[Any], Tensor]:
    """The fixed positions of the part at a path, after a zero for the class token."""

    def made(model: Any) -> Tensor:
        side, part = model.embedding.image // model.embedding.patch, model.get_submodule(path)
        places = places_of((side, side), torch.device("cpu"))
        waves = part(Tokens(torch.zeros(1, side**2, part.width), positions=places))
        return torch.nn.functional.pad(waves, (0, 0, 1, 0))

    return made


def seeing(design: Design) -> list[Pair]:
    """The stack that sees."""
    return [
        Pair("embedding.first", ("embeddings.cls_token",), Wrapped(1)),
        *layer("embedding.project", "embeddings.patch_embeddings.projection"),
        *BLOCKS,
        *layer("backbone.norm", "layernorm"),
    ]


def table(design: Design) -> list[Pair]:
    """Both stacks."""
    below = [
        Pair(pair.ours.replace(BLOCK, NARROW), tuple(f"decoder.decoder_{name}" for name in pair.theirs), pair.form)
        for pair in BLOCKS
    ]
    return [
        *(pair.under("vit.") for pair in seeing(design)),
        *layer("narrow", "decoder.decoder_embed"),
        Pair("hidden", ("decoder.mask_token",), Wrapped(2)),
        *below,
        *layer("decoder.norm", "decoder.decoder_norm"),
        *layer("head.project", "decoder.decoder_pred"),
    ]


SEEING = (
    *PICTURE,
    Key("hidden_size", "width", "width"),
    Depth("num_hidden_layers", "backbone.blocks"),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads"),
    Key("intermediate_size", f"{BLOCK}.feedforward.hidden"),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", None, ACTIVATIONS, "gelu"),
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-12),
)
"""What a config says of the stack that sees."""
register(
    Family(
        name="vit_mae",
        system="vit-mae",
        settings=(
            *SEEING,
            Key("hidden_act", f"{NARROW}.feedforward.activation", None, ACTIVATIONS, "gelu"),
            Key("decoder_hidden_size", "narrow", "narrow"),
            Depth("decoder_num_hidden_layers", "decoder.blocks", "narrow_depth"),
            Key("decoder_num_attention_heads", f"{NARROW}.mixer.heads", "narrow_heads"),
            Key("mask_ratio", "share", "share", default=0.75),
            Custom(narrow, lambda design: {"decoder_intermediate_size": 4 * design.get("narrow")}),
        ),
        table=table,
        tops={"ViTMAEForPreTraining": Top()},
        fixed={
            "vit.embeddings.position_embeddings": sines("embedding.positions"),
            "decoder.decoder_pos_embed": sines("positions"),
        },
    )
)


@upon(vit_mae)
def sees(design: Design) -> Design:
    """The stack that sees, alone."""
    whole = design.spec
    embedding, body = whole.get("embedding"), whole.get("backbone")
    return Design(spec(Model, width=whole.get("width"), embedding=embedding, backbone=body, start=whole.get("start")))


register(
    Family(
        name="vit_mae",
        system="vit-mae",
        make=sees,
        settings=(*SEEING, Written(mask_ratio=0.0)),  # a bare stack sees all here, where theirs hides some at random
        table=seeing,
        prefix="vit",
        only={"qkv_bias": True},
        tops={"ViTMAEModel": Top(prefix="")},
        fixed={"embeddings.position_embeddings": sines("embedding.positions")},
    )
)
