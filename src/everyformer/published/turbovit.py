"""TurboViT (Wong et al., 2023)."""

from __future__ import annotations

from everyformer.designs import Design
from everyformer.published.hiera import hiera
from everyformer.published.upon import upon
from everyformer.registry import system


@system(
    "turbovit",
    title="TurboViT: Generating Fast Vision Transformers via Generative Architecture Search",
    authors="Wong et al.",
    year=2023,
    arxiv="2308.11421",
    idea="Attention inside units and pooled queries, as in Hiera, in sizes that a search finds under a limit of cost.",
    tasks=("image-classification",),
)
@upon(hiera, width=48, depths=(1, 2, 6, 2))
def turbovit(design: Design) -> Design:
    """The pattern that the paper's search generates designs around; the sizes that it found are not published.

    `training.architectures.evolve` searches these options under a limit; the defaults are a small design, not the paper's.
    """
    return design
