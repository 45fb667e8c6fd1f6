"""A hypothesis: the tokens that an image transformer needs are retrieved."""

from __future__ import annotations

from everyformer.backbones import Block, ClassBank, ConvMerging, Remembering, RememberingStage
from everyformer.designs import Design
from everyformer.embeddings import Patches
from everyformer.feedforward import MLP
from everyformer.heads import ClassHead
from everyformer.mixers import Attention, MemorizingAttention, RetrievedAttention
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import LearnedGrid
from everyformer.published.bodies import branches, rising
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
def hypothesis_c(
    *,
    classes: int = 1000,
    image: int = 224,
    patch: int = 32,
    fine: int = 8,
    keep: int = 16,
    channels: int = 3,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    ratio: float = 4.0,
    drop_path: float = 0.0,
    eps: float = 1e-6,
) -> Design:
    """A ViT over patches made of `fine` ones, each block of which attends to the `keep` fine ones that suit each head and
    query best, in a memory that all blocks share.
    """
    if patch % fine:
        raise ValueError(f"a patch is made of whole fine ones; given {patch} and {fine}")
    norm, times = spec(LayerNorm, eps=eps), patch // fine
    mixer, cross = spec(Attention, heads=heads), spec(RetrievedAttention, heads=heads, memory="fine", keep=keep)
    mlp = spec(MLP, hidden=int(width * ratio))
    blocks = tuple(
        spec(
            Block, mixer=mixer, cross=(cross,), feedforward=mlp,
            residual=spec(PreNorm, norm=norm, branches=branches(None, rate)),
        )
        for rate in rising(drop_path, depth)
    )  # fmt: skip
    grids = [spec(LearnedGrid, grid=(image // side, image // side)) for side in (fine, patch)]
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Patches, patch=fine, channels=channels, image=image, positions=grids[0]),
            backbone=spec(
                RememberingStage, enter=spec(ConvMerging, kernel=times, stride=times), places=grids[1], first=1,
                blocks=blocks, norm=norm,
            ),
            head=spec(ClassHead, classes=classes),
            start=spec(Xavier),
        )
    )  # fmt: skip


@system(
    "hypothesis-c-across",
    title="Hypothesis C: Unlimiformer-style memory retrieval in image transformers, across pictures",
    authors="a hypothesis, not a paper",
    year=2026,
    idea="A ViT looks up what it said of other pictures, and of which class those were, in a bank that takes no gradient.",
    tasks=("image-classification",),
)
@upon(vit)
def hypothesis_c_across(
    design: Design,
    *,
    classes: int = 1000,
    depth: int = 12,
    heads: int = 12,
    qkv_bias: bool = True,
    readers: int = 1,
    capacity: int = 4096,
    keep: int = 32,
    gate: float = -4.0,
) -> Design:
    """A ViT the last `readers` blocks of which retrieve `keep` of the class tokens of `capacity` pictures, each head its own.

    Memorizing Transformers' gate (Wu et al., 2022) begins nearly closed. The bank fills as `objectives.Remembered` trains, or
    under `backbones.keeping`; as long as it is empty this is the ViT.
    """
    mixer = spec(MemorizingAttention, heads=heads, bias=qkv_bias, memory="bank", keep=keep, gate=gate)
    for block in range(depth - readers, depth):
        design = design.swap(f"backbone.blocks.{block}.mixer", mixer)
    bank = spec(ClassBank, capacity=capacity, classes=classes)
    return design.swap("backbone", lambda body: spec(Remembering, body=body, bank=bank))
