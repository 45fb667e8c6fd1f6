"""How a decoder is best spread over many chips for generation: an analytic model of time and memory (Pope et al., 2022).

Symbols as there: E width, F hidden width, B sequences, L tokens of each in a step, n chips, X of them along the axis over
which E (or, where weights are gathered, the batch) is cut. Counts are of numbers for each chip and layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from everyformer.costs import parameters
from everyformer.devices import Device
from everyformer.errors import BadInput, DoesNotFit
from everyformer.feedforward import MLP, Gated
from everyformer.mixers import Attention
from everyformer.registry import method

STATIONARY, GATHERED = "weight-stationary", "weight-gathered"


@dataclass(frozen=True)
class Shape:
    """What the model of costs knows of a decoder."""

    parameters: int
    layers: int
    width: int
    hidden: int
    heads: int
    key_heads: int
    head_width: int
    gated: bool = False
    """The feedforward has two matrices up and one down."""
    parallel: bool = False
    """Attention and feedforward stand side by side, and share what is sent."""

    @classmethod
    def of(cls, model: nn.Module) -> Shape:
        """That of a model whose blocks are equal, each of one `Attention` and one `MLP` or `Gated`."""
        from everyformer.backbones import ParallelBlock

        mixers = [m for m in model.modules() if isinstance(m, Attention)]
        feeds = [m for m in model.modules() if isinstance(m, (MLP, Gated))]
        kinds = {
            (type(f), m.heads, m.key_heads, m.head_width, f.down.in_features, f.down.out_features)
            for m, f in zip(mixers, feeds)
        }
        if len(mixers) != len(feeds) or len(kinds) != 1:
            raise DoesNotFit(
                f"the cost model is of decoders whose blocks are equal, each of one Attention and one MLP or Gated; this one "
                f"has {len(mixers)} Attention and {len(feeds)} feedforwards, of {len(kinds)} shapes"
            )
        ((kind, heads, key_heads, head_width, hidden, width),) = kinds
        beside = any(isinstance(m, ParallelBlock) for m in model.modules())
        return cls(parameters(model), len(mixers), width, hidden, heads, key_heads, head_width, kind is Gated, beside)

    @property
    def cache(self) -> int:
        """Keys and values of a token, all layers."""
        return 2 * self.layers * self.key_heads * self.head_width


def gathered(size: float, chips: int) -> float:
    """What a chip takes in while a tensor of `size` is all-gathered, or gives while it is reduce-scattered (A.1)."""
    return size * (chips - 1) / chips


def stationary_traffic(rows: float, width: float, hidden: float, chips: int, along: int, up: int = 1) -> float:
    """Numbers that two stationary matrices cost: E cut over `along` chips, F over the others (section 3.2.2).

    2 B L (E/X + F/(YZ)), which with X = 1 is the one-dimensional layout's 2 B L E (3.2.1). `rows` is B L; `up` counts the
    matrices that lead up to F.
    """
    others = chips // along
    return 2 * gathered(rows * width / along, others) + (1 + up) * gathered(rows * hidden / others, along)


def gathered_traffic(rows: float, width: float, hidden: float, chips: int, along: int, up: int = 1) -> float:
    """Numbers when weights are gathered over `along` chips, among which the batch is cut (section 3.2.3, A.2.2).

    2 E F N/n + 2 B L E / N.
    """
    others = chips // along
    return (1 + up) * gathered(width * hidden / others, along) + 2 * gathered(rows * width / along, others)


def best_stationary(width: float, hidden: float, chips: int) -> float:
    """The X that makes `stationary_traffic` least, sqrt(n E / F): half of sqrt(n) where F = 4 E (section 3.2.2)."""
    return math.sqrt(chips * width / hidden)


def best_gathered(rows: float, hidden: float, chips: int) -> float:
    """The N that makes `gathered_traffic` least, sqrt(B L n / F) (A.2.2)."""
    return math.sqrt(rows * chips / hidden)


@dataclass(frozen=True)
class Layout:
    """One way to spread a decoder over chips, with what a step takes: seconds, and bytes of each chip."""

    weights: str
    along: int
    """Chips along the axis that cuts E, or gathers weights."""
    caches: str
    """What keys and values are cut by: 'heads' or 'batch'."""
    compute: float
    loading: float
    """Weights and cache out of memory."""
    sending: float
    memory: float

    @property
    def seconds(self) -> float:
        """A step: the arithmetic hides the loading or is hidden by it; what is sent is not."""
        return max(self.compute, self.loading) + self.sending

    def __str__(self) -> str:
        kind = "1D" if self.weights == STATIONARY and self.along == 1 else f"{self.along} along"
        return f"{self.weights} ({kind}), cache by {self.caches}"


@method(
    "scaling-transformer-inference",
    title="Efficiently Scaling Transformer Inference",
    authors="Pope et al.",
    year=2022,
    arxiv="2211.05102",
    idea="An analytic model of compute, memory and communication picks how a decoder is cut over many chips.",
)
def partition(
    model: nn.Module | Shape,
    *,
    device: Device,
    chips: int,
    batch: int,
    length: int = 1,
    context: int = 0,
    weight_bytes: float = 2.0,
    cache_bytes: float = 2.0,
) -> list[Layout]:
    """Every layout of a decoder for a step of `length` tokens of `batch` sequences after `context` tokens.

    Those that a device has memory for come first, and of these the fastest. `length` is 1 where text is generated and that
    of the prompt where it is read.
    """
    if chips < 1 or chips & (chips - 1):
        raise BadInput(f"layouts are for a power of two of chips; given {chips}")
    shape = model if isinstance(model, Shape) else Shape.of(model)
    found = []
    for weights in (STATIONARY, GATHERED):
        for along in (2**i for i in range(chips.bit_length())):
            if weights == STATIONARY or (1 < along <= batch):
                for caches in ("heads", "batch"):
                    found.append(
                        _layout(
                            shape,
                            device,
                            chips,
                            weights,
                            along,
                            caches,
                            batch,
                            length,
                            context,
                            weight_bytes,
                            cache_bytes,
                        )
                    )
    return sorted(found, key=lambda each: (each.memory > device.memory, each.seconds))


def cache_share(shape: Shape, caches: str, chips: int, batch: int, rows: int = 1) -> int:
    """Among how many chips keys and values are cut; further chips hold copies (section 3.3).

    `rows` of the chips hold different sequences anyway, as where weights are gathered.
    """
    return rows * min(chips // rows, shape.key_heads if caches == "heads" else batch // rows)


def longest_context(shape: Shape, caches: str, *, memory: float, chips: int, batch: int, bytes: float = 2.0) -> float:
    """The tokens of each sequence whose keys and values take `memory` of every chip (Table 1)."""
    return memory * cache_share(shape, caches, chips, batch) / (batch * shape.cache * bytes)


def utilisation(shape: Shape, device: Device, *, chips: int, tokens: float, seconds: float) -> float:
    """Model FLOPs utilisation: 2 N operations a token against what the chips could do (section 2)."""
    return 2 * shape.parameters * tokens / (chips * device.bf16 * seconds)


def _layout(
    shape: Shape,
    device: Device,
    chips: int,
    weights: str,
    along: int,
    caches: str,
    batch: int,
    length: int,
    context: int,
    weight_bytes: float,
    cache_bytes: float,
) -> Layout:
    rows, heads = batch * length, shape.heads * shape.head_width
    traffic = stationary_traffic if weights == STATIONARY else gathered_traffic
    up = 2 if shape.gated else 1
    if shape.parallel:
        # One pair of collectives over E serves both; what is cut along F is that of both.
        sent = traffic(rows, shape.width, shape.hidden + heads / up, chips, along, up)
    else:
        sent = traffic(rows, shape.width, shape.hidden, chips, along, up) + traffic(
            rows, shape.width, heads, chips, along
        )
    apart = along if weights == GATHERED else 1
    if caches == "batch":
        # Queries go to the chips of their sequences, and answers back.
        sent += 2 * gathered(rows * heads / chips, chips // apart)
    kept = batch * (context + length) * shape.cache * cache_bytes / cache_share(shape, caches, chips, batch, apart)
    scores = 4 * rows * (context + length / 2) * heads * shape.layers
    held = shape.parameters * weight_bytes / chips
    return Layout(
        weights, along, caches,
        compute=(2 * shape.parameters * rows + scores) / (chips * device.bf16),
        loading=(held + kept) / device.bandwidth,
        sending=shape.layers * sent * 2 / device.link,
        memory=held + kept,
    )  # fmt: skip
