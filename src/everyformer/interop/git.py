"""GIT, for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.heads import TiedHead
from everyformer.interop import bert, clip
from everyformer.interop.config import Config, Custom, Depth, Key, Square, Within
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.published.clip import picture_tower
from everyformer.published.upon import upon

TOWER, PICTURE, TEXT = "encoder.blocks.0", "encoder.blocks.0.blocks", "decoder.blocks"
PLACES = {"embedding": "source", "backbone": TOWER, "head": TOWER}
ALONE = {"embedding": "embedding", "backbone": "backbone", "head": "backbone"}
"""Where the parts of CLIP's tower stand; its last norm is that of the body."""


def tied(config: Config) -> dict[str, Any]:
    """Whether words are told by the table of the embedding."""
    return {"tied": bool(config.get("tie_word_embeddings", False))}


def write_tied(design: Design) -> dict[str, Any]:
    """The same."""
    head = design.get("head")
    return {"tie_word_embeddings": head is not None and head.part is TiedHead}


def tower(places: Mapping[str, str]) -> list[Pair]:
    """The picture encoder."""
    found = []
    for pair in clip.picture():
        place, _, rest = pair.ours.partition(".")
        found.append(replace(pair, ours=f"{places[place]}.{rest}"))
    return found


@upon(picture_tower, fixed={"output": None})
def eyes(design: Design) -> Design:
    """The picture encoder alone, which answers with all its tokens."""
    return design.set("backbone.norm", design.get("head.norm")).set("head", None)


def table(design: Design) -> list[Pair]:
    """The body."""
    projection = "visual_projection.visual_projection"
    return [
        *(pair.under("image_encoder.vision_model.") for pair in tower(PLACES)),
        *layer("encoder.blocks.1.linear", f"{projection}.0"),
        *layer("encoder.norm", f"{projection}.1"),
        *(replace(pair, ours=pair.ours.replace("embedding.", "target.", 1)) for pair in bert.embeddings()),
        *layer("target.positions.table", "embeddings.position_embeddings", bias=False),
        *(replace(pair, ours=pair.ours.replace("backbone.", "decoder.", 1)) for pair in bert.BLOCKS),
    ]


register(
    Family(
        name="git",
        system="git",
        settings=(
            Within(
                "vision_config",
                (
                    Square("image_size", "source.image", "image", default=224),
                    Square("patch_size", "source.patch", "patch", default=16),
                    Key("num_channels", "source.channels", "channels", default=3),
                    Key("hidden_size", "source_width", "picture_width", default=768),
                    Key("intermediate_size", f"{PICTURE}.0.feedforward.hidden", "picture_hidden", default=3072),
                    Depth("num_hidden_layers", PICTURE, "picture_depth", default=12),
                    Key("num_attention_heads", f"{PICTURE}.0.mixer.heads", "picture_heads", default=12),
                    Key(
                        "hidden_act", f"{PICTURE}.0.feedforward.activation", "picture_activation", ACTIVATIONS,
                        "quick_gelu",
                    ),
                    Key("layer_norm_eps", "encoder.norm.eps", "picture_eps", default=1e-5),
                ),
            ),
            Key("vocab_size", "target.vocabulary", "vocabulary", default=30522),
            Key("max_position_embeddings", "target.positions.length", "length", default=1024),
            Key("hidden_size", "width", "width", default=768),
            Key("intermediate_size", f"{TEXT}.0.feedforward.hidden", "hidden", default=3072),
            Depth("num_hidden_layers", TEXT, default=6),
            Key("num_attention_heads", f"{TEXT}.0.mixer.heads", "heads", default=12),
            Key("hidden_act", f"{TEXT}.0.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
            Key("hidden_dropout_prob", f"{TEXT}.0.residual.dropout", "dropout", default=0.1),
            Key("attention_probs_dropout_prob", f"{TEXT}.0.mixer.dropout", "attention_dropout", default=0.1),
            Key("layer_norm_eps", "target.norm.eps", "eps", default=1e-12),
            Custom(tied, write_tied),
        ),
        table=table,
        prefix="git",
        only={"num_image_with_embedding": None},
        tops={
            "GitForCausalLM": Top(table=(*layer("head.project", "output"),)),
            "GitModel": Top(head=lambda config: None, prefix=""),
        },
    )
)  # fmt: skip
register(
    Family(
        name="git_vision_model",
        system="git",
        make=eyes,
        settings=(*clip.PICTURE, Square("patch_size", "embedding.patch", "patch", default=16)),
        table=lambda design: tower(ALONE),
        prefix="vision_model",
        tops={"GitVisionModel": Top()},
    )
)
