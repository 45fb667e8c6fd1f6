"""A ViT with Gaussian mixture masks (Li and Zhang, 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import Mean
from everyformer.published.upon import upon
from everyformer.published.vit import vit
from everyformer.registry import system
from everyformer.scores import GaussianMixture
from everyformer.specs import spec


@system(
    "gmm-mask-attention",
    title="Toward a Deeper Understanding: RetNet Viewed through Convolution",
    authors="Li and Zhang",
    year=2023,
    arxiv="2309.05375",
    idea="Scores are multiplied by a few learned Gaussians of the distance: two numbers each make a ViT see its neighbourhood.",
    tasks=("image-classification",),
    default="small",
    sizes={"small": {"width": 192, "depth": 9, "heads": 12}},
)
@upon(
    vit, classes=10, image=32, patch=4, width=192, depth=9, heads=12, ratio=2.0, qkv_bias=False, drop_path=0.1, eps=1e-5
)
def gmm_mask_attention(design: Design, *, components: int = 3) -> Design:
    """Section 3 and the official code: no class token, the norm behind the mean of all patches."""
    masks = (spec(GaussianMixture, components=components),)
    return (
        design.set("embedding.first", 0)
        .set("backbone.blocks.*.mixer.steps", masks)
        .set("backbone.norm", None)
        .swap("head", lambda head: head.but(pool=spec(Mean), norm=design.get("backbone.norm")))
    )
