"""A hypothesis: the tokens that an image transformer needs are retrieved."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.embeddings import Beside, Patches
from everyformer.mixers import RetrievedAttention
from everyformer.positions import LearnedGrid
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "hypothesis-c",
    title="Hypothesis C: Unlimiformer-style memory retrieval in image transformers",
    authors="a hypothesis, not a paper",
    year=2026,
    idea="A few coarse patches look up, head by head, the few fine patches of the picture that tell them most.",
    tasks=("image-classification",),
)
@upon(vit, patch=32, width=384, heads=6)
def hypothesis_c(design: Design, *, heads: int = 6, fine: int = 8, keep: int = 16) -> Design:
    """A ViT over coarse patches, each block of which attends to the `keep` best of the picture's patches of `fine` pixels
    for each head and query, in a memory that all blocks share.
    """
    coarse = design.get("embedding")
    image, channels = coarse.get("image"), coarse.get("channels")
    side = image // fine
    memory = spec(Patches, patch=fine, channels=channels, image=image, positions=spec(LearnedGrid, grid=(side, side)))
    cross = (spec(RetrievedAttention, heads=heads, memory="fine", keep=keep),)
    return design.swap("embedding", spec(Beside, tokens=coarse, memory=memory)).set("backbone.blocks.*.cross", cross)
