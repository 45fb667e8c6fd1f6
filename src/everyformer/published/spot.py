"""SPOT (Kakogeorgiou et al., 2024)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design
from everyformer.feedforward import MLP
from everyformer.heads import SlotAttention, SlotMasks
from everyformer.masks import Causal
from everyformer.mixers import Attention, CrossAttention
from everyformer.models import FixedBody
from everyformer.norms import Identity, LayerNorm, PreNorm
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.scores import Noted
from everyformer.specs import spec


@system(
    "spot-object-centric",
    title="SPOT: Self-Training with Patch-Order Permutation for Object-Centric Learning with Autoregressive Transformers",
    authors="Kakogeorgiou et al.",
    year=2024,
    arxiv="2312.00648",
    idea="Slots must tell what a picture shows, for it is rebuilt from them in random order; where that looks teaches them.",
    tasks=("object-discovery",),
    default="coco",
    sizes={"coco": {}, "voc": {"slots": 6}},
)
@upon(vit, fixed={"classes": 1})
def spot(
    design: Design,
    *,
    width: int = 768,
    slots: int = 7,
    slot_width: int = 256,
    slot_hidden: int = 1024,
    iterations: int = 3,
    orders: int = 9,
    decoder_depth: int = 4,
    decoder_heads: int = 6,
    dropout: float = 0.0,
) -> Design:
    """Section 3 on a ViT that is frozen, its last norm left out (DINO's weights in the paper); a student of
    `objectives.SelfTaughtSlots` has the same design.
    """
    residual = spec(PreNorm, dropout=dropout)
    attention = spec(Attention, heads=decoder_heads, bias=False)
    cross = spec(CrossAttention, heads=decoder_heads, memory="slots", bias=False)
    block = spec(
        Block,
        mixer=attention,
        cross=(cross,),
        feedforward=spec(MLP, hidden=4 * width, activation="relu"),
        residual=residual,
    )
    bare = block.but(residual=(residual.but(norm=spec(Identity)), residual, residual))
    head = spec(
        SlotMasks,
        slots=spec(SlotAttention, slots=slots, slot_width=slot_width, iterations=iterations, hidden=slot_hidden),
        body=spec(Encoder, blocks=(bare, *(block,) * (decoder_depth - 1)), norm=spec(LayerNorm), mask=Causal()),
        orders=orders,
    )
    last = f"head.body.blocks.{decoder_depth - 1}.cross.0.steps"
    design = design.remove("backbone.norm").set("head", head).set(last, (spec(Noted),))
    return Design(spec(FixedBody, **design.spec.options))
