"""Reformer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from everyformer.designs import Design
from everyformer.errors import DoesNotFit
from everyformer.heads import ClassHead, Transform
from everyformer.interop.bert import SPANS
from everyformer.interop.config import Always, Config, Custom, Key, Labels, Setting, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Squeezed
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, layer
from everyformer.masks import Full
from everyformer.mixers import Attention
from everyformer.norms import Identity
from everyformer.published.reformer import plenty, reformer
from everyformer.published.upon import upon
from everyformer.specs import Spec, spec

BLOCKS = "backbone.blocks.0.blocks"
BLOCK = f"{BLOCKS}.*"


def table(design: Design) -> list[Pair]:
    """The body; local layers have queries, keys and values, the others queries that are keys."""
    theirs, own = "encoder.layers.*.attention", "encoder.layers.*.attention.self_attention"
    fed = "encoder.layers.*.feed_forward"
    places = "embeddings.position_embeddings"
    return [
        *layer("embedding.table", "embeddings.word_embeddings", bias=False),
        *layer("embedding.positions.table", f"{places}.embedding", bias=False),
        Pair("embedding.positions.rows.weight", (f"{places}.weights.0",), Squeezed(1)),
        Pair("embedding.positions.columns.weight", (f"{places}.weights.1",), Squeezed(0)),
        *layer(f"{BLOCK}.mixer.qkv", *(f"{own}.{name}" for name in ("query", "key", "value")), bias=False),
        *layer(f"{BLOCK}.mixer.query_key", f"{own}.query_key", bias=False),
        *layer(f"{BLOCK}.mixer.value", f"{own}.value", bias=False),
        *layer(f"{BLOCK}.mixer.output", f"{theirs}.output.dense", bias=False),
        *layer(f"{BLOCK}.residual.0.norm", f"{theirs}.layer_norm"),
        *layer(f"{BLOCK}.residual.1.norm", f"{fed}.layer_norm"),
        *layer(f"{BLOCK}.feedforward.up", f"{fed}.dense.dense"),
        *layer(f"{BLOCK}.feedforward.down", f"{fed}.output.dense"),
        *layer("backbone.norm", "encoder.layer_norm"),
    ]


def places(config: Config) -> dict[str, Any]:
    """The length, and the grid that the line of places is folded into."""
    said: dict[str, Any] = {"length": config.value("max_position_embeddings", 4096)}
    if config.get("axial_pos_embds", True):
        said |= {
            "grid": tuple(config.value("axial_pos_shape", (64, 64))),
            "widths": tuple(config.value("axial_pos_embds_dim", (64, 192))),
        }
    return said


def write_places(design: Design) -> dict[str, Any]:
    """The same keys; a folded line is as long as its grid."""
    positions = design.get("embedding.positions")
    if positions.name == "positions.Learned":
        return {"axial_pos_embds": False, "max_position_embeddings": positions.get("length")}
    rows, columns = positions.get("grid")
    folded = {"axial_pos_shape": [rows, columns], "axial_pos_embds_dim": list(positions.get("widths"))}
    return {"axial_pos_embds": True, "max_position_embeddings": rows * columns, **folded}


def layers(config: Config) -> dict[str, Any]:
    """Which layers hash; without a number of buckets the one for the longest text, as theirs takes it from the first."""
    pattern = tuple(config.value("attn_layers"))
    chunk = config.value("lsh_attn_chunk_length", 64)
    buckets = config.get("num_buckets") or plenty(config.value("max_position_embeddings", 4096), chunk)
    return {
        "pattern": pattern, "depth": len(pattern), "chunk": chunk, "window": config.value("local_attn_chunk_length", 64),
        "buckets": tuple(buckets) if isinstance(buckets, list) else buckets,
        "rounds": config.value("num_hashes", 1),
    }  # fmt: skip


def write_layers(design: Design) -> dict[str, Any]:
    """The same keys, from the layers of each kind."""
    mixers = [block.get("mixer") for block in design.get(BLOCKS)]
    said: dict[str, Any] = {"attn_layers": ["local" if each.part is Attention else "lsh" for each in mixers]}
    for each in mixers:
        if each.part is Attention:
            said["local_attn_chunk_length"] = each.get("mask").left.size
        else:
            buckets = each.get("buckets")
            said |= {
                "lsh_attn_chunk_length": each.get("chunk"), "num_hashes": each.get("rounds"),
                "num_buckets": list(buckets) if isinstance(buckets, tuple) else buckets,
            }  # fmt: skip
    return said


@dataclass(frozen=True)
class Seeds(Setting):
    """`hash_seed`: where the rotations of all layers that hash are drawn from; 0 where theirs draws others in each pass."""

    def read(self, config: Config) -> dict[str, Any]:
        """A path for each layer that hashes."""
        seed = config.get("hash_seed") or 0
        found = [i for i, kind in enumerate(config.value("attn_layers")) if kind == "lsh"]
        return {f"{BLOCKS}.{i}.mixer.seed": seed for i in found}

    def write(self, design: Design) -> dict[str, Any]:
        """The key; one for all."""
        seeds = {
            block.get("mixer").get("seed") for block in design.get(BLOCKS) if block.get("mixer").part is not Attention
        }
        if len(seeds) > 1:
            raise DoesNotFit(f"theirs has one hash_seed, and the layers have {sorted(seeds)}", BLOCKS)
        return {"hash_seed": min(seeds, default=0)}


def classes(config: Config) -> Spec[ClassHead]:
    """A class read from the first token, through a map of both streams."""
    both = spec(Transform, norm=spec(Identity), activation="tanh", output=config.value("hidden_size", 256))
    return spec(ClassHead, classes=len(labels(config)), transform=both)


SETTINGS: tuple[Setting, ...] = (
    Key("vocab_size", "embedding.vocabulary", "vocabulary", default=320),
    Key("hidden_size", "width", "width", default=256),
    Key("feed_forward_size", f"{BLOCK}.feedforward.hidden", "hidden", default=512),
    Key("num_attention_heads", f"{BLOCK}.mixer.heads", "heads", default=12),
    Key("attention_head_size", f"{BLOCK}.mixer.head_width", "head_width", default=64),
    Key("hidden_act", f"{BLOCK}.feedforward.activation", "activation", ACTIVATIONS, "relu"),
    Key("hidden_dropout_prob", "embedding.dropout", "dropout", default=0.05),
    Key("layer_norm_eps", "backbone.norm.eps", "eps", default=1e-12),
    Custom(layers, write_layers),
    Custom(places, write_places),
    Seeds(),
)
SPEAKS = Top(
    table=(*layer("head.project", "lm_head.decoder", bias=False),),
    unused=("lm_head.bias", "lm_head.decoder.bias"),  # theirs keeps a bias, and adds none
)
"""Says words."""
READS = {
    "ReformerModel": Top(head=lambda config: None, prefix=""),
    "ReformerForSequenceClassification": Top(
        head=classes,
        settings=(Labels("head.classes", "head.classes"),),
        table=(*layer("head.transform.linear", "classifier.dense"), *layer("head.classify", "classifier.out_proj")),
    ),
    "ReformerForQuestionAnswering": SPANS,
}
"""What both kinds have."""
FAMILY = register(
    Family(
        name="reformer",
        system="reformer",
        settings=(*SETTINGS, Always("released", True)),
        table=table,
        prefix="reformer",
        only={
            "is_decoder": True, "local_num_chunks_before": 1, "local_num_chunks_after": 0, "lsh_num_chunks_before": 1,
            "lsh_num_chunks_after": 0, "tie_word_embeddings": False,
        },
        unused=("*.self_mask_value_*", "*.mask_value_*"),
        tops={"ReformerModelWithLMHead": SPEAKS, **READS},
    )
)  # fmt: skip


@upon(reformer, fixed={"released": True}, pattern=("lsh",))
def reader(design: Design) -> Design:
    """The same where every token may be seen; only of layers that hash."""
    if any(block.get("mixer").part is Attention for block in design.get(BLOCKS)):
        raise DoesNotFit(
            "where nothing is causal, the first chunk of a local layer of theirs sees the last one; attn_layers here "
            "can only be 'lsh'",
            BLOCKS,
        )
    return design.set(f"{BLOCK}.mixer.mask", Full())


register(
    replace(
        FAMILY, make=reader, settings=SETTINGS, only={**FAMILY.only, "is_decoder": False},
        tops={"ReformerForMaskedLM": SPEAKS, **READS},
    )
)  # fmt: skip
