"""Promise 8: FLOPs are those of the closed formula, attention included."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import everyformer as ef
from everyformer.contracts import FeedForward, mix
from everyformer.costs import flops, on_meta, tree
from everyformer.tokens import Tokens
from support.parts import context, mixers, names, spec_of

MEMORY = 100


def attention(n: int, d: int) -> float:
    """Queries, keys, values and output; scores and their product with the values. A multiply-add counts two."""
    return 2 * n * d * 4 * d + 2 * 2 * n * n * d


def cross(n: int, d: int) -> float:
    return 2 * n * d * 2 * d + 2 * MEMORY * d * 2 * d + 2 * 2 * n * MEMORY * d


def unmapped(n: int, d: int) -> float:
    """Attention without the map after it."""
    return attention(n, d) - 2 * n * d * d


def hamburger(n: int, d: int) -> float:
    """Two maps; seven steps of both factors and a last one of one, two products each, and what they begin and end with; rank 16."""
    half = 2 * 16 * (n * d + (n + d) * 16)
    return 2 * n * d * 2 * d + 2 * 16 * n * d + (2 * 7 + 1) * half + 2 * 16 * n * d


def scanned(n: int, h: int, k: int, v: int, chunk: int, delta: bool = False) -> float:
    """A chunked scan: in each chunk scores and their sums, outside of it what the state gives and takes."""
    inside = (2 * chunk * k if delta else 0) + 2 * chunk * (k + v)
    return h * n * (inside + (2 if not delta else 3) * 2 * k * v)


def linear(n: int, d: int) -> float:
    """The state of a head holds one value more than the head has, the normaliser."""
    k = d // 8
    return 2 * n * d * 4 * d + 8 * 2 * n * 2 * k * (k + 1)


def retention(n: int, d: int) -> float:
    return 2 * n * d * 8 * d + scanned(n, 8, d // 8, d // 4, 64)


def gated(n: int, d: int) -> float:
    """Of decays of channels, each takes a product for each pair of tokens of a chunk."""
    k = d // 8
    return 2 * n * d * 4 * d + 2 * n * 16 * (d + d // 2) + 4 * n * (2 * 16 * (k + 2 * k) + 4 * k * 2 * k)


def delta(n: int, d: int, more: int = 0) -> float:
    return 2 * n * d * ((4 + more) * d + 4 * (1 + more)) + scanned(n, 4, d // 4, d // 4, 64, delta=True)


def state_space(n: int, d: int) -> float:
    return 2 * n * d * (6 * d + 2 * 128 + 8) + scanned(n, 8, 128, d // 4, 64)


def time_mix(n: int, d: int) -> float:
    """In each chunk of 32 a mean over it and the past."""
    return 2 * n * d * 4 * d + 2 * n * d * 33


def linformer(n: int, d: int) -> float:
    return 2 * n * d * 4 * d + 2 * 2 * 128 * n * d + 2 * 2 * n * 128 * d


def latent(n: int, d: int) -> float:
    """8 heads of 32 channels and 16 turned ones, a latent of 64."""
    maps = d * (8 * 48 + 64 + 16 + 8 * 32) + 64 * 8 * 64
    return 2 * n * maps + 2 * n * n * 8 * (48 + 32)


def hyena(n: int, d: int) -> float:
    """Four maps, a filter of 64 hidden channels, and two transforms of real numbers into complex ones and one back."""
    return 2 * n * (4 * d * d + 64 * (3 + 64 + d)) + 3 * 2.5 * 2 * n * d * math.log2(2 * n)


def toeplitz(n: int, d: int) -> float:
    """64 features of each head times its values and a normaliser, each transformed there and back, and read."""
    k = d // 8
    each = 8 * 64 * (k + 1)
    return 2 * n * d * 4 * d + 2 * 8 * 2 * n * k * 64 + 2 * 2.5 * 2 * n * each * math.log2(2 * n) + 2 * n * each


def listed(n: int, d: int, blocks: Callable[[int], int]) -> float:
    """Attention by blocks of 64 from 512 tokens on, where they are at most half of all."""
    side = -(-n // 64)
    if n < 512 or blocks(side) > side * side / 2:
        return attention(n, d)
    return 2 * n * d * 4 * d + 4 * d * 64 * 64 * blocks(side)


def big_bird(n: int, d: int) -> float:
    """Blocks of one token: two see all, two see four, the others five."""
    return listed(n, d, lambda b: 2 * b + 2 * 4 + (b - 4) * 5)


def window(n: int, d: int) -> float:
    """One token on each side."""
    return listed(n, d, lambda b: 3 * b - 2)


def routed(n: int, d: int) -> float:
    """Two chosen tokens, as keys of all and as queries of all, and the router's means of two tokens."""
    rows = n if n < 512 else -(-n // 64) * 64
    return window(n, d) + 4 * d * 2 * (rows + n) + 2 * (n // 2) * (d + 1) * 32


def nystrom(n: int, d: int) -> float:
    """Two landmarks, and a convolution over 65 values."""
    return 2 * n * d * 4 * d + 4 * 2 * n * 2 * d + 2 * n * 2 * 2 * 8 + 2 * n * 65 * d


def combiner(n: int, d: int) -> float:
    """Segments of two: direct scores, what each asks and finds within, and a summary for each."""
    return 2 * n * d * 4 * d + 4 * n * 2 * d + 4 * n * d + 4 * n * (n / 2) * d


def multi_resolution(n: int, d: int) -> float:
    """Blocks of two: all pairs of their means, and as many exact ones as there are blocks."""
    return 2 * n * d * 4 * d + 4 * (n / 2) ** 2 * d + (n / 2) * 4 * 4 * d


def retrieved(n: int, d: int) -> float:
    """8 heads look over the memory and take means of its states."""
    return 2 * n * d * 4 * d + 4 * n * 8 * MEMORY * d


def grid_of(n: int) -> tuple[int, int]:
    """The rows and columns of so many cells, as square as they can be."""
    rows = max(r for r in range(1, math.isqrt(n) + 1) if n % r == 0)
    return rows, n // rows


def apart(side: int) -> Callable[[int, int], float]:
    """Attention inside parts of side x side cells, the map filled up to whole ones."""

    def formula(n: int, d: int) -> float:
        rows, columns = (-(-side_of // side) * side for side_of in grid_of(n))
        return rows * columns * (8 * d * d + 4 * side * side * d)

    return formula


def fused(n: int, d: int) -> float:
    """Rows of which the first token sees all, and the others each other and the first ones."""
    rows, columns = grid_of(n)
    own = columns - 1
    return 8 * n * d * d + 4 * d * (rows * own * (own + rows) + rows * n)


def reduced(n: int, d: int) -> float:
    """Keys and values on half the rows and columns, which a convolution of 2 x 2 makes."""
    rows, columns = grid_of(n)
    m = (rows // 2) * (columns // 2)
    return 4 * n * d * d + m * (2 * 4 * d * d + 4 * d * d) + 4 * n * m * d


def convolved(n: int, d: int) -> float:
    """Depthwise 3 x 3 convolutions before the maps, those of keys and values over every other row and column."""
    rows, columns = grid_of(n)
    m = -(-rows // 2) * -(-columns // 2)
    return 18 * d * (n + 2 * m) + 4 * n * d * d + 4 * m * d * d + 4 * n * m * d


def embedding_free(n: int, d: int) -> float:
    """The map behind the mean of 2 x 2 cells, that of the output, and the products."""
    rows, columns = grid_of(n)
    m = (rows // 2) * (columns // 2)
    return 2 * n * d * d + 2 * m * d * d + 4 * n * m * d


def axial(n: int, d: int) -> float:
    """Each cell with those of its row and of its column, and a depthwise 5 x 5 convolution."""
    return 2 * n * d * 4 * d + 4 * n * sum(grid_of(n)) * d + 50 * n * d


def gated_convolution(n: int, d: int) -> float:
    """Three orders of d/4, d/2 and d channels, a depthwise 7 x 7 convolution of all of them."""
    orders = (d // 4, d // 2, d)
    between = orders[0] * orders[1] + orders[1] * orders[2]
    return n * (2 * d * 2 * d + 2 * 49 * sum(orders) + 2 * between + 2 * d * d)


def between_channels(n: int, d: int) -> float:
    """8 heads, whose channels attend to each other."""
    return 2 * n * d * 4 * d + 4 * n * d * (d // 8)


def factored(n: int, d: int) -> float:
    """The same products, and kernels of 3 for two heads, 5 and 7 for three each."""
    return between_channels(n, d) + 2 * n * (d // 8) * (2 * 9 + 3 * 25 + 3 * 49)


def bottleneck(n: int, d: int) -> float:
    """Four times as wide inside, and once a gate of a quarter of the width."""
    return n * (2 * 2 * 4 * d * d + 18 * 4 * d) + 2 * 2 * 4 * d * max(d // 4, 1)


def plane(n: int, d: int) -> float:
    """From two corners a map and a kernel of twice the sides into Fourier space, and their product back."""
    return 2 * 3 * 2.5 * 4 * n * d * math.log2(4 * n)


def expanded(n: int, d: int) -> float:
    """112 learned vectors: scores once, and with both signs spread over them and gathered again."""
    return 2 * n * d * 4 * d + 5 * 2 * 112 * n * d


def legendre(n: int, d: int, m: int) -> float:
    """Maps from the memory of m numbers, A^i for all i by doubling, and a convolution by Fourier transforms."""
    doublings = math.ceil(math.log2(n))
    powers = 2 * (2**doublings - 1) * m * m + doublings * 2 * m**3
    return 2 * n * d * (1 + m + 2 * d) + powers + 3 * 2.5 * 2 * n * m * math.log2(2 * n)


def codes(n: int, d: int) -> float:
    """8 heads of 16 bits from 25 anchors, and one number beside them; queries are keys."""
    k = d // 8
    return 2 * n * d * 3 * d + 2 * n * 25 * (d + 8 * 16) + 8 * 2 * n * 2 * 17 * (k + 1)


def atoms(n: int, d: int) -> float:
    """6 atoms, each of three polynomials of two powers, a convolution over 3 tokens, and in training spectra of 4."""
    return n * d * 6 * (2 * 3 + 2 + 3 * 2 * 2) + 2 * 2.5 * 4 * math.log2(4) * (n - 3) * d


def prob_sparse(n: int, d: int) -> float:
    """5 ln n queries attend, and each query is tried on as many keys."""
    few = 5 * math.ceil(math.log(n))
    return attention(n, d) - 4 * n * n * d + 6 * few * n * d


def hashed(rounds: int, buckets: int, chunks: int) -> Callable[[int, int], float]:
    """Each token with those of some chunks of 64, in each round."""

    def formula(n: int, d: int) -> float:
        whole = -(-n // 64) * 64
        return 2 * n * d * 3 * d + rounds * (buckets * n * d + 4 * whole * chunks * 64 * d)

    return formula


MIXERS: dict[str, tuple[Callable[[int, int], float], float]] = {
    "mixers.AddingConvMLP": (lambda n, d: n * (2 * 2 * 4 * d * d + 18 * 4 * d), 1.0),
    "mixers.AxialEnhancedAttention": (axial, 1.344),
    "mixers.CrossedAttention": (lambda n, d: attention(n, d) + 2 * n * d * 2 * d, 2.0),
    "mixers.CrossedCrossAttention": (lambda n, d: cross(n, d) + 2 * n * d * 2.5 * d - 2 * MEMORY * d * 0.5 * d, 1.0),
    "mixers.EmbeddingFree": (embedding_free, 1.98),
    "mixers.EnhancedAttention": (lambda n, d: attention(n, d) + 50 * n * d, 1.98),
    "mixers.TokenMLP": (lambda n, d: 2 * 2 * 16 * 24 * d, 0.0),
    "mixers.ChunkedLSHAttention": (hashed(1, 16, 2), 1.0),
    "mixers.GatedWindow": (lambda n, d: 2 * n * d * 3 * 2 * d, 1.0),
    "mixers.Inception": (lambda n, d: 2 * n * d * (1 + 3 + 5 + 7) * d / 4, 1.0),
    "mixers.LandmarkAttention": (attention, 2.0),
    "mixers.LegendreMemory": (lambda n, d: legendre(n, d, d), 1.087),
    "mixers.LongShortTerm": (lambda n, d: 2 * n * 2 * 4 * (d / 2) * (d + d / 2), 1.0),
    "mixers.LSHAttention": (hashed(2, 2, 3), 1.0),
    "mixers.MemorizingAttention": (lambda n, d: attention(n, d) + 2 * n * d * (2 * d + 8 * (MEMORY + 3)), 1.752),
    "mixers.PairedAttention": (attention, 2.0),
    "mixers.PartialAttention": (lambda n, d: attention(n, d) + 2 * n * d * 2 * d, 2.0),
    "mixers.PartialCrossAttention": (lambda n, d: cross(n, d) + 2 * n * d * 2 * d, 1.0),
    "mixers.ProbSparse": (prob_sparse, 1.086),
    "mixers.SharedLinearAttention": (codes, 1.0),
    "mixers.SpectralDictionary": (atoms, 1.0),
    "mixers.SpikingLegendreMemory": (lambda n, d: legendre(n, d, 2 * d), 1.075),
    "mixers.SpikingMLP": (lambda n, d: 2 * n * d * 2 * 4 * d, 1.0),
    "mixers.StaticExpansion": (expanded, 1.0),
    "mixers.After": (lambda n, d: plane(n, d) + attention(n, d), 1.88),
    "mixers.Anchored": (apart(2), 1.0),
    "mixers.Attention": (attention, 2.0),
    "mixers.PlacedAttention": (attention, 2.0),
    "mixers.PlacedCrossAttention": (cross, 1.0),
    "mixers.PlaneStateSpace": (plane, 1 + math.log(14 / 11) / math.log(8)),
    "mixers.RingAttention": (attention, 2.0),
    "mixers.BernoulliAttention": (attention, 2.0),
    "mixers.BigBirdAttention": (big_bird, 0.93),
    "mixers.CausalComparison": (lambda n, d: 0, 1.0),
    "mixers.ChannelMix": (lambda n, d: 2 * n * d * 9 * d, 1.0),
    "mixers.CombinerAttention": (combiner, 1.97),
    "mixers.CrossAttention": (cross, 1.0),
    "mixers.FlatCross": (cross, 1.0),
    "mixers.HierarchicalCross": (lambda n, d: 2 * cross(n, d) + 2 * n * d * 6 * d + 8 * n * d, 1.0),
    "mixers.ParallelCross": (cross, 1.0),
    "mixers.DeltaNet": (delta, 1.0),
    "mixers.DifferentialAttention": (lambda n, d: 2 * n * d * 4 * d + 3 * 2 * n * n * d, 2.0),
    "mixers.FixedPointAttention": (attention, 2.0),
    "mixers.Chain": (lambda n, d: n * (18 * d + 2 * 2 * 48 * d), 1.0),
    "mixers.ConvAttention": (convolved, 1.95),
    "mixers.ConvMLP": (lambda n, d: n * (2 * 2 * 4 * d * d + 18 * 4 * d), 1.0),
    "mixers.CosineAttention": (attention, 2.0),
    "mixers.Correlation": (unmapped, 1.95),
    "mixers.CrossCorrelation": (lambda n, d: cross(n, d) - 2 * n * d * d, 1.0),
    "mixers.Difference": (lambda n, d: 2 * attention(n, d), 1.95),
    "mixers.Hamburger": (hamburger, 1.0),
    "mixers.Depthwise": (lambda n, d: 18 * n * d, 1.0),
    "mixers.GatedConvolution": (gated_convolution, 1.0),
    "mixers.Pooling": (lambda n, d: 0, 1.0),
    "mixers.RealGatedRecurrence": (lambda n, d: 2 * n * d * (3 * d + 2 * d // 8) + scanned(n, d, 1, 1, 64), 1.0),
    "mixers.ReducedAttention": (reduced, 1.95),
    "mixers.Spread": (apart(2), 1.0),
    "mixers.Windows": (apart(3), 1.0),
    "mixers.FilledWindows": (apart(3), 1.0),
    "mixers.DeformableAttention": (lambda n, d: 2 * n * d * (2 * d + 4 * 4 * 3 + 4), 1.0),
    "mixers.FourierMixer": (lambda n, d: 5 * n * d * math.log2(n * d), 1 + math.log(15 / 12) / math.log(8)),
    "mixers.CrossCovariance": (between_channels, 1.0),
    "mixers.FactorAttention": (factored, 1.0),
    "mixers.Identity": (lambda n, d: 0, 1.0),
    "mixers.InvertedBottleneck": (bottleneck, 1.0),
    "mixers.LocalInteraction": (lambda n, d: 2 * 18 * n * d, 1.0),
    "mixers.RandomMixing": (lambda n, d: 2 * 16 * 16 * d, 0.0),
    "mixers.SlimAttention": (attention, 2.0),
    "mixers.FrontedAttention": (attention, 2.0),
    "mixers.FusedAttention": (fused, 1.5),
    "mixers.GatedAttention": (attention, 2.0),
    "mixers.GatedDeltaNet": (lambda n, d: delta(n, d, 1), 1.0),
    "mixers.GatedLinearAttention": (gated, 1.0),
    "mixers.GlobalLocal": (window, 1.03),
    "mixers.Hyena": (hyena, 1.015),
    "mixers.LabelledGlobalLocal": (lambda n, d: window(n, d) + 2 * n * d * (3 * d + 2 * 3 + 3), 1.03),
    "mixers.LargeKernel": (lambda n, d: n * (3 * 2 * d * d + 2 * (25 + 49) * d), 1.0),
    "mixers.LatentAttention": (latent, 2.0),
    "mixers.LinearAttention": (linear, 1.0),
    "mixers.Linformer": (linformer, 1.0),
    "mixers.LongformerAttention": (lambda n, d: window(n, d) + 2 * n * d * 3 * d, 1.03),
    "mixers.MixtureKeys": (lambda n, d: 2 * n * d * 4 * d + 2 * 4 * n * n * d, 2.0),
    "mixers.MultiResolution": (multi_resolution, 1.94),
    "mixers.NystromAttention": (nystrom, 1.0),
    "mixers.PoNet": (lambda n, d: 2 * n * d * 6 * d + 4 * n * d, 1.0),
    "mixers.RetrievedAttention": (retrieved, 1.0),
    "mixers.Retention": (retention, 1.0),
    "mixers.RoutedGlobal": (routed, 1.03),
    "mixers.SampledBernoulliAttention": (lambda n, d: 2 * n * d * 4 * d + 2 * 2 * n * d * 9 * 64, 1.0),
    "mixers.SegmentAttention": (attention, 2.0),
    "mixers.StateSpace": (state_space, 1.0),
    "mixers.SubsampledAttention": (lambda n, d: 2 * n * d * 4 * d + n * n * d, 1.95),  # half of the tokens in training
    "mixers.TimeMix": (time_mix, 1.0),
    "mixers.ToeplitzAttention": (toeplitz, 1 + math.log(13 / 10) / math.log(8)),
    "mixers.TokenMatrix": (lambda n, d: 2 * n * n * d, 2.0),
    "mixers.SubspaceAttention": (lambda n, m: 2 * n * m * m * 2 + 4 * n * n * m, 2.0),
    "mixers.ProjectedAttention": (lambda n, m: 2 * n * m * 12 * 2 * 3 + 4 * n * n * m, 2.0),
}
"""The closed formula in tokens and width of each mixer with its defaults, and how it grows from 512 to 4096 tokens."""
FEEDFORWARD: dict[str, Callable[[int, int], float]] = {
    "feedforward.NormedMLP": lambda n, d: 2 * n * d * 1.5 * d * 2,
    "feedforward.NestedGated": lambda n, d: 2 * n * d * int(d * 8 / 3) * 3,
    "feedforward.NestedMLP": lambda n, d: 2 * n * d * 4 * d * 2,
    "feedforward.Projected": lambda n, d: 2 * n * d * 256 * 2,
    "feedforward.SparseCoding": lambda n, d: 2 * n * d * d * 2,
    "feedforward.ReusingMLP": lambda n, d: 2 * n * ((d + 8) * 4 * d + 4 * d * d),
    "feedforward.Pointwise": lambda n, d: 2 * n * d * d,
    "feedforward.MLP": lambda n, d: 2 * n * d * 4 * d * 2,
    "feedforward.FourierKAN": lambda n, d: 2 * n * d * d * 2 * 8,
    "feedforward.RadialKAN": lambda n, d: 2 * n * d * d * 2 * (8 + 1),
    "feedforward.SineKAN": lambda n, d: 2 * n * d * d * 2 * 8,
    "feedforward.SplineKAN": lambda n, d: 2 * n * d * d * 2 * (8 + 1),
    "feedforward.Experts": lambda n, d: 2 * n * d * (2 * 2 * 16 + 4),
    "feedforward.Gated": lambda n, d: 2 * n * d * int(d * 8 / 3) * 3,
}


def counted(name: str, count: int, width: int, **options: object) -> int:
    """What is counted for one mixer or feedforward."""
    with torch.device("meta"):
        part = spec_of(name, **options).build(width)
        grid = grid_of(count) if "grid" in getattr(part, "capabilities", ()) else None
        whole = Tokens(torch.zeros(1, count, width), grid=grid)
        shared = context(1, width=width)
        shared.memory = {"encoder": Tokens(torch.zeros(1, MEMORY, width))}

    class Alone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            given = whole.update(values)
            return mix(part, given, shared) if name.startswith("mixers.") else part(given, shared)

    return flops(Alone(), {"values": whole.values})[""]


@pytest.mark.parametrize("count", [128, 1000, 4096])
@pytest.mark.parametrize("name", mixers())
def test_a_mixer_costs_what_its_formula_says(name: str, count: int) -> None:
    if name not in MIXERS:
        pytest.fail(f"{name} has no closed formula: add it to MIXERS in {__file__}")
    if name == "mixers.Anchored" and any(side % 2 for side in grid_of(count)):
        pytest.skip("it cuts its map evenly, and refuses this one")
    formula, _ = MIXERS[name]
    assert counted(name, count, 64) == pytest.approx(formula(count, 64), rel=0.01)


@pytest.mark.parametrize("name", mixers())
def test_a_mixer_grows_as_declared(name: str) -> None:
    formula, exponent = MIXERS[name]
    if not formula(512, 8):
        pytest.skip("it multiplies nothing")
    grown = math.log(counted(name, 4096, 8) / counted(name, 512, 8)) / math.log(8)
    assert grown == pytest.approx(exponent, abs=0.05)


@pytest.mark.parametrize("name", [n for n in names("feedforward") if issubclass(spec_of(n).part, FeedForward)])
def test_a_feedforward_costs_what_its_formula_says(name: str) -> None:
    if name not in FEEDFORWARD:
        pytest.fail(f"{name} has no closed formula: add it to FEEDFORWARD in {__file__}")
    assert counted(name, 200, 64) == pytest.approx(FEEDFORWARD[name](200, 64), rel=0.01)
    assert counted(name, 400, 64) == 2 * counted(name, 200, 64)


@pytest.mark.parametrize("mask", [ef.masks.Full(), ef.masks.Causal(), ef.masks.Window(4)], ids=str)
def test_a_mask_hides_no_cost(mask: ef.masks.Mask) -> None:
    assert counted("mixers.Attention", 256, 64, mask=mask) == pytest.approx(attention(256, 64), rel=0.01)


@pytest.mark.parametrize("key_heads", [1, 2, 8])
def test_shared_keys_cost_less_to_make_and_as_much_to_use(key_heads: int) -> None:
    got = counted("mixers.Attention", 256, 64, heads=8, key_heads=key_heads)
    assert got == pytest.approx(2 * 256 * 64 * (2 * 64 + 2 * 8 * key_heads) + 4 * 256 * 256 * 64, rel=0.01)


@pytest.mark.parametrize("position", ["positions.ALiBi", "positions.Rotary", "positions.Buckets"])
def test_positions_hide_no_cost(position: str) -> None:
    got = counted("mixers.Attention", 256, 64, heads=8, positions=spec_of(position))
    assert got == pytest.approx(attention(256, 64), rel=0.01)


@pytest.mark.parametrize(("size", "image"), [("tiny", 224), ("small", 32)])
def test_a_vision_transformer_costs_the_sum_of_its_parts(size: str, image: int) -> None:
    design = ef.design("vit", size=size, image=image, patch=16 if image == 224 else 4, classes=10)
    width, depth = design.get("width"), len(design.get("backbone.blocks"))
    patch = design.get("embedding.patch")
    cells = (image // patch) ** 2
    n = cells + 1
    block = attention(n, width) + 2 * n * width * 4 * width * 2
    wanted = 2 * cells * 3 * patch**2 * width + depth * block + 2 * width * 10
    assert flops(on_meta(design))[""] == pytest.approx(wanted, rel=0.001)


def test_the_printed_tree_says_flops() -> None:
    design = ef.design("vit", size="tiny", image=32, patch=4, classes=10)
    text = tree(design)
    assert "FLOPs" in text.splitlines()[0]
    counts = flops(on_meta(design))
    blocks = next(line for line in text.splitlines() if "blocks.0..11" in line)
    assert f"{12 * counts['backbone.blocks.0'] / 1e6:.3g} M" in blocks
