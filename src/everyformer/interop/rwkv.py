"""RWKV-4."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop.config import Config, Custom, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.weights import Pair, layer


def depth(config: Config) -> dict[str, Any]:
    """How many layers, of two blocks each."""
    return {"depth": config.value("num_hidden_layers")}


def write_depth(design: Design) -> dict[str, Any]:
    """The same, counted."""
    return {"num_hidden_layers": len(design.get("backbone.blocks")) // 2}


def table(design: Design) -> list[Pair]:
    """The body: a layer of theirs is two blocks of ours."""
    found = [
        *layer("embedding.table", "embeddings", bias=False),
        *layer("embedding.norm", "blocks.0.pre_ln"),
        *layer("backbone.norm", "ln_out"),
    ]
    for i in range(len(design.get("backbone.blocks")) // 2):
        time, channel = f"backbone.blocks.{2 * i}", f"backbone.blocks.{2 * i + 1}"
        for ours, theirs, norm, mixtures, maps in (
            (time, "attention", "ln1", ("key", "value", "receptance"), ("key", "value", "receptance", "output")),
            (channel, "feed_forward", "ln2", ("key", "receptance"), ("key", "receptance", "value")),
        ):
            own = f"blocks.{i}.{theirs}"
            found += layer(f"{ours}.residual.0.norm", f"blocks.{i}.{norm}")
            found.append(Pair(f"{ours}.mixer.mixtures", tuple(f"{own}.time_mix_{name}" for name in mixtures)))
            for name in maps:
                found += layer(f"{ours}.mixer.{name}", f"{own}.{name}", bias=False)
        found.append(Pair(f"{time}.mixer.decay", (f"blocks.{i}.attention.time_decay",)))
        found.append(Pair(f"{time}.mixer.bonus", (f"blocks.{i}.attention.time_first",)))
    return found


register(
    Family(
        name="rwkv",
        system="rwkv",
        settings=(
            Key("vocab_size", "embedding.vocabulary", "vocabulary"),
            Key("hidden_size", "width", "width"),
            Key("attention_hidden_size", "backbone.blocks.0.mixer.hidden", "inner", default=None),
            Key("intermediate_size", "backbone.blocks.1.mixer.hidden", "hidden", default=None),
            Key("layer_norm_epsilon", "embedding.norm.eps", "eps", default=1e-5),
            Custom(depth, write_depth),
        ),
        table=table,
        prefix="rwkv",
        only={"tie_word_embeddings": False},
        tops={
            "RwkvForCausalLM": Top(table=(*layer("head.project", "head", bias=False),)),
            "RwkvModel": Top(head=lambda config: None, prefix=""),
        },
    )
)
