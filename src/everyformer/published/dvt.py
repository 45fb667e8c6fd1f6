"""Dynamic Vision Transformers (Wang et al., DVT, 2021)."""

from __future__ import annotations

from everyformer.backbones import Block, Encoder
from everyformer.contracts import Backbone
from everyformer.designs import Design
from everyformer.embeddings import OverlapPatches
from everyformer.feedforward import MLP, ReusingMLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention
from everyformer.models import Cascade, Model, Normal
from everyformer.norms import Identity, LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import branches, rising
from everyformer.registry import system
from everyformer.scores import Relayed
from everyformer.specs import Spec, spec


@system(
    "dvt",
    title="Not All Images are Worth 16x16 Words: Dynamic Transformers for Efficient Image Recognition",
    authors="Wang et al.",
    year=2021,
    arxiv="2105.15075",
    idea="Easy pictures are answered by a network of few tokens; a harder one goes on to more, which reuse what was found.",
    tasks=("image-classification",),
    default="deit-small",
    sizes={"deit-small": {"width": 384, "heads": 6}},
)
def dvt(
    *,
    classes: int = 1000,
    image: int = 224,
    channels: int = 3,
    grids: tuple[int, ...] = (7, 10, 14),
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    ratio: float = 4.0,
    reused: int = 48,
    inner: int = 128,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """Section 3: a ViT for each of `grids`, those after the first with feature and relationship reuse.

    `Cascade.decide` exits by thresholds, which `ef.models.thresholds_for` finds for a share of pictures at each exit.
    """
    norm = spec(LayerNorm, eps=eps)
    mixer = spec(Attention, heads=heads, steps=(spec(Relayed),))

    def block(member: int, rate: float) -> Spec[Backbone]:
        own = spec(PreNorm, norm=norm, branches=branches(None, rate))
        bare = own.but(norm=spec(Identity))
        hidden = int(width * ratio)
        reusing = spec(ReusingMLP, norm=norm, hidden=hidden, reused=reused, inner=inner)
        feedforward = reusing if member else spec(MLP, hidden=hidden)
        return spec(Block, mixer=mixer, feedforward=feedforward, residual=(own, bare if member else own))

    def model(member: int) -> Spec[Model]:
        grid = grids[member]
        patch = -(-image // grid)
        around = patch * grid - image
        return spec(
            Model,
            width=width,
            embedding=spec(
                OverlapPatches, kernel=patch, stride=patch, padding=-(-around // 2), channels=channels, image=image,
                first=1, positions=spec(LearnedGrid, grid=(grid, grid)),
            ),
            backbone=spec(Encoder, blocks=tuple(block(member, rate) for rate in rising(drop_path, depth)), norm=norm),
            head=spec(ClassHead, classes=classes),
        )  # fmt: skip

    return Design(spec(Cascade, members=tuple(map(model, range(len(grids)))), start=spec(Normal)))
