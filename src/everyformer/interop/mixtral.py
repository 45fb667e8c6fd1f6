"""Mixtral: Llama with experts."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.interop import llama
from everyformer.interop.config import Key
from everyformer.interop.family import Family, register
from everyformer.interop.llama import BLOCK
from everyformer.interop.weights import Pair, layer

EXPERTS = f"{BLOCK}.feedforward"
FILES = "layers.*.block_sparse_moe"


def table(design: Design) -> list[Pair]:
    """The body."""
    return [
        *llama.table(design),
        *layer(f"{EXPERTS}.router.score", f"{FILES}.gate", bias=False),
        *layer(f"{EXPERTS}.expert.*.up", f"{FILES}.experts.*.w1", f"{FILES}.experts.*.w3", bias=False),
        *layer(f"{EXPERTS}.expert.*.down", f"{FILES}.experts.*.w2", bias=False),
    ]


register(
    Family(
        name="mixtral",
        system="moe",
        settings=(
            *(each for each in llama.SETTINGS if getattr(each, "theirs", "") != "intermediate_size"),
            Key("intermediate_size", f"{EXPERTS}.expert.hidden", "hidden"),
            Key("num_local_experts", f"{EXPERTS}.count", "experts", default=8),
            Key("num_experts_per_tok", f"{EXPERTS}.router.k", "chosen", default=2),
            Key("router_aux_loss_coef", f"{EXPERTS}.router.balance", "balance", default=0.001),
        ),
        table=table,
        prefix="model",
        only={"hidden_act": "silu", "sliding_window": None},
        unused=("*.rotary_emb.inv_freq",),
        tops=llama.tops("Mixtral"),
    )
)
