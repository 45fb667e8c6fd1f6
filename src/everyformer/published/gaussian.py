"""A ViT with Gaussian mixture masks (Li and Zhang, 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.heads import ClassHead, Mean
from everyformer.mixers import Attention
from everyformer.norms import LayerNorm
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
def gmm_mask_attention(
    *,
    classes: int = 10,
    image: int = 32,
    patch: int = 4,
    channels: int = 3,
    width: int = 192,
    depth: int = 9,
    heads: int = 12,
    ratio: float = 2.0,
    components: int = 3,
    dropout: float = 0.0,
    drop_path: float = 0.1,
    eps: float = 1e-5,
) -> Design:
    """Section 3 and the official code: no class token, the norm behind the mean of all patches."""
    made = vit(
        classes=classes, image=image, patch=patch, channels=channels, width=width, depth=depth, heads=heads, ratio=ratio,
        dropout=dropout, drop_path=drop_path, eps=eps,
    )  # fmt: skip
    masks = (spec(GaussianMixture, components=components),)
    mixer = spec(Attention, heads=heads, bias=False, output_bias=True, steps=masks)
    head = spec(ClassHead, classes=classes, pool=spec(Mean), norm=spec(LayerNorm, eps=eps))
    return (
        made.set("embedding.first", 0)
        .swap("backbone.blocks.*.mixer", mixer)
        .set("backbone.norm", None)
        .swap("head", head)
    )
