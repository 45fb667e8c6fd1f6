"""Every registered mixer beside scaled dot-product attention, as the input grows.

    python -m benchmarks.mixers [--quick] [--lengths 512 1024 2048 4096] [--repeats 1]

Width 64, 4 heads, one sequence; a causal decoder's place for those that are made for one. Forward and backward by processor
time of one thread, in turns; memory is what the forward pass keeps for the backward pass. Each is fitted by a power of the
length. A mixer whose paper claims less than the square has to keep it in memory, which is exact: else the command fails.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import everyformer as ef
from benchmarks.paired import in_turns, milliseconds, write
from everyformer.context import Context
from everyformer.contracts import Mixer, mix
from everyformer.errors import EveryformerError
from everyformer.masks import Causal, Window
from everyformer.tokens import Tokens

WIDTH, HEADS = 64, 4
LENGTHS = (512, 1024, 2048, 4096)
BASE = "Attention"
OPTIONS: dict[str, dict[str, Any]] = {
    "GlobalLocal": {"mask": Window(64, 64)},
    "LongformerAttention": {"mask": Window(64, 64)},
    "BigBirdAttention": {"block": 32, "random": 1},
}
"""Sizes at which a sparse pattern is sparse at these lengths."""
QUADRATIC = {
    "Attention", "CosineAttention", "DifferentialAttention", "FixedPointAttention", "GatedAttention", "LandmarkAttention",
    "LatentAttention", "MixtureKeys", "SegmentAttention", "SubsampledAttention", "TokenMatrix",
}  # fmt: skip
"""Those whose papers claim no less than the square."""
ALLOWANCE = 0.15


def mixers(longest: int) -> dict[str, Mixer]:
    """Every mixer of tokens that can be made of a width, heads, a length and the options above."""
    found = {}
    for name, cls in ef.parts("mixers").items():
        if not issubclass(cls, Mixer):
            continue
        known = ef.specs.signature(cls)
        given = {name: value for name, value in (("heads", HEADS), ("length", longest)) if name in known}
        try:
            made = ef.spec(cls, **given, **OPTIONS.get(name, {})).build(WIDTH)
        except (EveryformerError, TypeError):
            continue
        if not {"memory", "grid", "condition"} & made.capabilities:
            found[name] = made.eval()
    return found


def context(mixer: Mixer) -> Context:
    """A causal place for a mixer that is only made for one."""
    return (
        Context(mask=Causal()) if "causal" in mixer.capabilities and "masked" not in mixer.capabilities else Context()
    )


def tokens(count: int) -> Tokens:
    """One sequence of which the first token is marked."""
    values = torch.randn(1, count, WIDTH, generator=torch.Generator().manual_seed(0))
    return Tokens(values.requires_grad_(), marked=(torch.arange(count) == 0)[None])


def kept(mixer: Mixer, given: Tokens) -> int:
    """Bytes that a forward pass keeps for its backward pass, the mixer's own weights and the input left out."""
    storages: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in mixer.parameters()} | {given.values.untyped_storage().data_ptr()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        answer = mix(mixer, given, context(mixer))
    total = sum(storages.values())
    del answer
    return total


def passes(mixer: Mixer, count: int, backward: bool) -> Callable[[], None]:
    """One forward pass, or one with its backward pass."""
    given = tokens(count)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            answer = mix(mixer, given, context(mixer))
        if backward:
            answer.square().sum().backward()

    return run


def exponent(lengths: Sequence[int], figures: Sequence[float]) -> float:
    """The power of the length that fits best (least squares of the logarithms)."""
    x, y = [math.log(n) for n in lengths], [math.log(max(f, 1e-9)) for f in figures]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def main() -> None:
    """Measure, print and write `benchmarks/mixers.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="without the longest")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="how many tokens")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lengths = options.lengths[:-1] if options.quick else options.lengths
    found = mixers(max(lengths))
    figures: dict[str, dict[str, list[float]]] = {
        name: {"forward_ms": [], "both_ms": [], "kept_mib": []} for name in found
    }
    for count in lengths:
        for key, backward in (("forward_ms", False), ("both_ms", True)):
            runs = {name: passes(mixer, count, backward) for name, mixer in found.items()}
            for name, spent in milliseconds(in_turns(runs, options.repeats)).items():
                figures[name][key].append(spent)
        for name, mixer in found.items():
            figures[name]["kept_mib"].append(round(kept(mixer, tokens(count)) / 2**20, 3))
    report: dict[str, Any] = {}
    print(f"{'mixer':<22}{'forward':>9}{'both':>9}{'memory':>9}   faster from")
    for name, each in figures.items():
        powers = {key: round(exponent(lengths, values), 2) for key, values in each.items()}
        ahead = [a < b for a, b in zip(each["both_ms"], figures[BASE]["both_ms"], strict=True)]
        faster = next((n for i, n in enumerate(lengths) if all(ahead[i:])), None)
        report[name] = {**each, "exponents": powers, "faster_from": faster}
        print(f"{name:<22}" + "".join(f"{'N^' + str(p):>9}" for p in powers.values()) + f"   {faster or '-'}")
    write(__file__, lengths=lengths, width=WIDTH, heads=HEADS, mixers=report)
    above = [
        name for name in found if name not in QUADRATIC and report[name]["exponents"]["kept_mib"] > 1.5 + ALLOWANCE
    ]
    if above:
        raise SystemExit(f"memory grows as the square, or nearly: {', '.join(above)}")


if __name__ == "__main__":
    main()
