"""Transformers whose tokens are mixed in other ways: by pooling, by tables, by comparison, by several keys or several rounds."""

from __future__ import annotations

from everyformer.backbones import Block, Decoder
from everyformer.designs import Design
from everyformer.embeddings import Text
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import (
    CausalComparison,
    FixedPointAttention,
    Hyena,
    LinearAttention,
    MixtureDirections,
    MixtureKeys,
    PoNet,
    PositiveFeatures,
    SubsampledAttention,
    ToeplitzAttention,
    TokenMatrix,
)
from everyformer.models import Model, Normal
from everyformer.norms import LayerNorm, PreNorm
from everyformer.positions import Buckets
from everyformer.published.bert import bert
from everyformer.published.gpt import gpt
from everyformer.published.kernels import BASE, NANO, roberta
from everyformer.published.upon import upon
from everyformer.registry import system
from everyformer.scores import Clipped, DistanceFactors, Power
from everyformer.specs import spec


@system(
    "ponet",
    title="PoNet: Pooling Network for Efficient Token Mixing in Long Sequences",
    authors="Tan et al.",
    year=2022,
    arxiv="2110.02442",
    idea="Pool over everything, over segments and over neighbours, and fuse the three with each token by a product.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": NANO, "base": BASE},
)
@upon(roberta, vocabulary=30522)
def ponet(design: Design, *, heads: int = 12, segments: int = 8) -> Design:
    """Section 3.1 in BERT's place of attention."""
    return design.swap("backbone.blocks.*.mixer", spec(PoNet, heads=heads, segments=segments))


@system(
    "self-transformer",
    title="Change of Thought: Adaptive Test-Time Computation",
    authors="Mathur et al.",
    year=2025,
    arxiv="2507.13569",
    idea="Attention is iterated on its own answer until that stays, so that hard inputs are thought over longer.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": NANO, "base": BASE},
)
@upon(roberta, vocabulary=30522)
def self_transformer(design: Design, *, heads: int = 12, iterations: int = 10) -> Design:
    """Fixed-point self-attention in place of every attention of an encoder, with no more parameters."""
    return design.swap("backbone.blocks.*.mixer", spec(FixedPointAttention, heads=heads, iterations=iterations))


@system(
    "transformer-mgk",
    title="Improving Transformers with Probabilistic Attention Keys",
    authors="Nguyen et al.",
    year=2022,
    arxiv="2110.08678",
    idea="Each head scores a position by a mixture of Gaussian keys, so that half the heads are enough.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {**NANO, "heads": 2},
        "small": {"width": 128, "hidden": 2048, "depth": 16, "heads": 4, "length": 256},
        "medium": {"width": 256, "hidden": 2048, "depth": 16, "heads": 4, "length": 384},
    },
)
@upon(gpt, vocabulary=267735, length=256, width=128, depth=16)
def transformer_mgk(design: Design, *, heads: int = 4, components: int = 2, dropout: float = 0.0) -> Design:
    """Section 2.3, with shifted keys (2.4), in the language models of section 3.2."""
    return design.swap(
        "backbone.blocks.*.mixer", spec(MixtureKeys, heads=heads, components=components, dropout=dropout)
    )


@system(
    "nprf-rpe",
    title="Stable, Fast and Accurate: Kernelized Attention with Relative Positional Encoding",
    authors="Luo et al.",
    year=2021,
    arxiv="2106.12566",
    idea="Random features with a relative bias stay exact in N log N: the exponentiated bias is a Toeplitz matrix.",
    tasks=("language-modelling",),
    default="base",
    sizes={"nano": {**NANO, "features": 32}, "base": {"width": 768, "depth": 12, "heads": 12, "length": 512}},
)
@upon(gpt)
def nprf_rpe(design: Design, *, length: int = 512, heads: int = 12, features: int = 64) -> Design:
    """Section 3, in a decoder without absolute positions."""
    mixer = spec(ToeplitzAttention, heads=heads, length=length, features=spec(PositiveFeatures, features=features))
    return design.swap("backbone.blocks.*.mixer", mixer).set("embedding.positions", None)


@system(
    "masked-mixer",
    title="Masked Mixers for Language Generation and Retrieval",
    authors="Badger",
    year=2024,
    arxiv="2409.01482",
    idea="A causal learned matrix over places in place of attention keeps more of its input, and retrieves better.",
    tasks=("language-modelling",),
    default="base",
    sizes={
        "nano": {"width": 128, "depth": 4, "length": 64},
        "base": {"width": 512, "depth": 8, "length": 512},
        "large": {"width": 1024, "depth": 8, "length": 512},
    },
)
def masked_mixer(*, vocabulary: int = 4096, length: int = 512, width: int = 512, depth: int = 8) -> Design:
    """Section 2: no positions are added, places are those of the matrix."""
    block = spec(Block, mixer=spec(TokenMatrix, length=length), feedforward=spec(MLP), residual=spec(PreNorm))
    return Design(
        spec(
            Model,
            width=width,
            embedding=spec(Text, vocabulary=vocabulary),
            backbone=spec(Decoder, blocks=(block,) * depth, norm=spec(LayerNorm)),
            head=spec(TokenHead, vocabulary=vocabulary),
            start=spec(Normal, std=0.02, scaled=True),
        )
    )


@system(
    "causal-generation-function",
    title="Breaking the Attention Bottleneck",
    authors="Hilsenbek",
    year=2024,
    arxiv="2406.10906",
    idea="Comparing each token with the one before, and with the mean of all so far, stands in for attention.",
    tasks=("language-modelling",),
    default="small",
    sizes={"nano": {"width": 128, "depth": 4, "length": 64}, "small": {"width": 768, "depth": 12, "length": 1024}},
)
@upon(gpt, fixed={"heads": 1}, bias=False)
def causal_generation_function(design: Design, *, average: bool = True) -> Design:
    """nanoGPT with the function in the place of its attention."""
    return design.swap("backbone.blocks.*.mixer", spec(CausalComparison, average=average))


@system(
    "power-softmax",
    title="Power-Softmax: Towards Secure LLM Inference over Encrypted Data",
    authors="Zimerman et al.",
    year=2024,
    arxiv="2410.09457",
    idea="An even power stands in for exp in attention: after training, the network is near a polynomial.",
    tasks=("language-modelling",),
    default="small",
    sizes={"nano": NANO, "small": {"width": 768, "depth": 12, "heads": 12, "length": 1024}},
)
@upon(gpt)
def power_softmax(design: Design, *, power: int = 2, eps: float = 1e-6) -> Design:
    """Section 4: weights s^p / (sum s^p + eps)."""
    return design.set("backbone.blocks.*.mixer.normaliser", spec(Power, power=power, eps=eps))


@system(
    "urpe",
    title="Your Transformer May Not be as Powerful as You Expect",
    authors="Luo et al.",
    year=2022,
    arxiv="2205.13401",
    idea="Relative biases inside softmax cannot tell equal tokens apart; a learned factor of each distance after it can.",
    tasks=("language-modelling",),
    default="base",
    sizes={"nano": NANO, "base": {"width": 768, "depth": 12, "heads": 12, "length": 512}},
)
@upon(gpt)
def urpe(design: Design, *, length: int = 512) -> Design:
    """Section 4: T5's buckets inside softmax, the factors after it, no absolute positions."""
    made = design.set("embedding.positions", None)
    made = made.set("backbone.blocks.*.mixer.positions", spec(Buckets, both_ways=False))
    return made.set("backbone.blocks.*.mixer.steps", (spec(DistanceFactors, farthest=length),))


@system(
    "quantizable-transformers",
    title="Quantizable Transformers: Removing Outliers by Helping Attention Heads Do Nothing",
    authors="Bondarenko et al.",
    year=2023,
    arxiv="2306.12929",
    idea="Softmax that can reach exactly zero spares the outliers that heads need to do nothing, and that quantization suffers.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": NANO, "base": BASE},
)
@upon(bert)
def quantizable_transformers(design: Design, *, alpha: float = 3.2) -> Design:
    """Section 4.1: BERT with clipped softmax; `mixers.GatedAttention` is section 4.2's other way."""
    return design.set("backbone.blocks.*.mixer.normaliser", spec(Clipped, alpha=alpha))


@system(
    "kernelized-transformer",
    title="On Learning the Transformer Kernel",
    authors="Chowdhury et al.",
    year=2022,
    arxiv="2110.08323",
    idea="Random features stay linear in time while the law of their directions, and so the kernel, is learned.",
    tasks=("masked-language-modelling", "text-classification"),
    default="base",
    sizes={"nano": {**NANO, "features": 64}, "base": BASE},
)
@upon(roberta, vocabulary=30522)
def kernelized_transformer(design: Design, *, heads: int = 12, features: int = 128, components: int = 4) -> Design:
    """Section 3: positive features along directions from a learned mixture (GMM-PRF); others by exchanging the parts."""
    law = spec(MixtureDirections, components=components)
    mixer = spec(LinearAttention, heads=heads, features=spec(PositiveFeatures, features=features, directions=law))
    return design.swap("backbone.blocks.*.mixer", mixer)


@system(
    "ssa",
    title="The Information Pathways Hypothesis: Transformers are Dynamic Self-Ensembles",
    authors="Hussain et al.",
    year=2023,
    arxiv="2306.01705",
    idea="Train each layer on a random part of the tokens, at a part of the cost, and look at all of them afterwards.",
    tasks=("language-modelling",),
    default="base",
    sizes={"nano": NANO, "base": {"width": 768, "depth": 12, "heads": 12, "length": 1024}},
)
@upon(gpt)
def ssa(design: Design, *, heads: int = 12, share: float = 0.25, dropout: float = 0.0) -> Design:
    """Section 3.2, unbiased; `share` 1 is the dense training that comes last."""
    return design.swap("backbone.blocks.*.mixer", spec(SubsampledAttention, heads=heads, share=share, dropout=dropout))


@system(
    "hyena",
    title="Hyena Hierarchy: Towards Larger Convolutional Language Models",
    authors="Poli et al.",
    year=2023,
    arxiv="2302.10866",
    idea="Long convolutions, their filters made by a small network, between gates: attention's reach in N log N.",
    tasks=("language-modelling",),
    default="small",
    sizes={
        "nano": {"width": 128, "depth": 4, "length": 64},
        "small": {"width": 864, "hidden": 1728, "depth": 18, "length": 2048},
    },
)
@upon(gpt, fixed={"heads": 1}, width=864, depth=18)
def hyena(design: Design, *, length: int = 2048, order: int = 2) -> Design:
    """Section 3 in a decoder without positions, which the filters have."""
    made = design.swap("backbone.blocks.*.mixer", spec(Hyena, order=order, length=length))
    return made.set("embedding.positions", None)
