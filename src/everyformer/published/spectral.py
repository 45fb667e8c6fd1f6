"""Spectral dictionary language models (Kiruluta, 2025)."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.heads import TiedHead
from everyformer.mixers import SpectralDictionary
from everyformer.models import Model, Normal
from everyformer.norms import Identity, LayerNorm, Replacement
from everyformer.registry import system
from everyformer.specs import spec


@system(
    "spectral-dictionary-lm",
    title="From Attention to Atoms: Spectral Dictionary Learning for Fast, Interpretable Language Models",
    authors="Kiruluta",
    year=2025,
    arxiv="2505.00033",
    idea="Every token is a sum of the waves of one global dictionary, and the next word is read off that sum.",
    tasks=("language-modelling",),
    default="base",
    sizes={
        "nano": {"width": 128, "length": 64, "atoms": 64},
        "base": {"width": 512, "length": 512, "atoms": 256},
    },
)
def spectral_dictionary_lm(
    *,
    vocabulary: int = 50257,
    length: int = 512,
    width: int = 512,
    depth: int = 1,
    atoms: int = 256,
    order: int = 1,
    kernel: int = 3,
    window: int = 16,
) -> Design:
    """A causal convolution gives the coefficients of the atoms; what they rebuild stands for the token, without a residual."""
    mixer = spec(SpectralDictionary, atoms=atoms, length=length, order=order, kernel=kernel, window=window)
    block = spec(Block, mixer=mixer, feedforward=None, residual=spec(Replacement, norm=spec(Identity)))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TiedHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02),
        )
    )
