"""Gemma 2, and the text model of Gemma 3."""

from __future__ import annotations

from typing import Any

from everyformer.designs import Design
from everyformer.interop import llama
from everyformer.interop.alternating import Kinds, Near, Rotations
from everyformer.interop.config import Always, Config, Custom, Depth, Key
from everyformer.interop.family import Family, Top, register
from everyformer.interop.gpt import BLOCK
from everyformer.interop.weights import Pair, layer


def table(design: Design) -> list[Pair]:
    """The body: Llama's, with four norms in a layer."""
    around = (
        ("input_layernorm", "post_attention_layernorm"),
        ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    )
    return [
        *(pair for pair in llama.table(design) if ".residual." not in pair.ours),
        *(
            pair
            for k, both in enumerate(around)
            for j, name in enumerate(both)
            for pair in layer(f"{BLOCK}.residual.{k}.norm.{j}", f"layers.*.{name}", bias=False)
        ),
    ]


def caps(default: tuple[float | None, float | None]) -> Custom:
    """What scores and logits are capped at; `default` where nothing is said."""

    def read(config: Config) -> dict[str, Any]:
        return {
            "cap": config.get("attn_logit_softcapping", default[0]),
            "logit_cap": config.get("final_logit_softcapping", default[1]),
        }

    def write(design: Design) -> dict[str, Any]:
        steps = design.get("backbone.blocks.0.mixer.steps")
        head = design.get("head")
        logits = default[1] if head is None or "cap" not in head.options else head.get("cap")
        return {
            "attn_logit_softcapping": steps[0].get("cap") if steps else None,
            "final_logit_softcapping": logits,
        }

    return Custom(read, write)


def scaled_by(config: Config) -> dict[str, Any]:
    """The square of what scores are divided by."""
    return {"scaled_by": config.get("query_pre_attn_scalar", 256)}


def write_scaled_by(design: Design) -> dict[str, Any]:
    """The same."""
    return {"query_pre_attn_scalar": round(design.get("backbone.blocks.0.mixer.scale") ** -2)}


SETTINGS = (
    *(each for each in llama.SETTINGS if isinstance(each, (Key, Depth))),
    Near("sliding_window", 4096, lambda mask: mask.before + 1),
    Custom(scaled_by, write_scaled_by),
)
ONLY = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "tie_word_embeddings": True}


def tops(name: str, names: dict[str, str]) -> dict[str, Top]:
    """Llama's classes that they have, under their names, the head tied."""
    found = {names.get(each, each): top for each, top in llama.tops(name).items() if not each.endswith("Answering")}
    return {each: Top(table=top.table) if each.endswith("CausalLM") else top for each, top in found.items()}


def last(index: int, n: int) -> bool:
    """Each n-th layer sees all, the n-th the first of them."""
    return (index + 1) % n == 0


def one_base(config: Config) -> dict[str, Any]:
    """One rotation for all layers."""
    base = llama.rope(config)["base"]
    return {"base": base, "local_base": base}


register(
    Family(
        name="gemma2",
        system="gemma",
        settings=(
            *SETTINGS,
            Kinds(last, "sliding_window_pattern", 2),
            Custom(one_base, llama.write_rope),
            caps((50.0, 30.0)),
            Always("query_key_norm", False),
        ),
        table=table,
        prefix="model",
        only={**ONLY, "use_bidirectional_attention": None},
        tops=tops("Gemma2", {}),
    )
)
register(
    Family(
        name="gemma3_text",
        system="gemma",
        settings=(
            *SETTINGS, Kinds(last, "sliding_window_pattern", 6), caps((None, None)), Always("query_key_norm", True),
            Rotations(("rope_theta", "rope_local_base_freq"), (1000000.0, 10000.0)),
        ),
        table=table,
        prefix="model",
        only={**ONLY, "use_bidirectional_attention": False, "attn_logit_softcapping": None},
        tops={
            name: top
            for name, top in tops(
                "Gemma3",
                {
                    "Gemma3Model": "Gemma3TextModel",
                    "Gemma3ForSequenceClassification": "Gemma3TextForSequenceClassification",
                },
            ).items()
            if not name.endswith("TokenClassification")
        },
    )
)  # fmt: skip
