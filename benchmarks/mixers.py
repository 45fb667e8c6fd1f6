"""Every registered mixer beside scaled dot-product attention, as the input grows.

    python -m benchmarks.mixers [--quick] [--lengths 512 1024 2048 4096] [--contexts 1024 8192 32768] [--repeats 3]
                                [--gib 8] [--seconds 30]

Width 64, 4 heads, one sequence; a causal decoder's place for those that are made for one. Forward and backward by processor
time of one thread; memory is what the forward pass keeps for the backward pass. Each is fitted by a power of the length. Each
is measured in a process of its own, where a pass may take `--gib` (Linux): a mixer that asks for more is timed at shorter
lengths alone, and so is one that would take more than `--seconds` if the last pass's time grew as the square. A mixer whose
paper claims less than the square has to keep less in memory, which is exact: else the command fails.

Those that work token by token are timed at that after contexts of other lengths: tokens a second, and what the cache then
holds, which is the same after all of them where the mixer keeps a state: else the command fails as well.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import everyformer as ef
from benchmarks.paired import in_turns, milliseconds, write
from everyformer.context import Cache, Context
from everyformer.contracts import Mixer, mix
from everyformer.errors import EveryformerError
from everyformer.masks import Causal, Window
from everyformer.tokens import Tokens
from everyformer.training.footprint import Live

WIDTH, HEADS = 64, 4
LENGTHS = (512, 1024, 2048, 4096)
CONTEXTS = (1024, 8192, 32768)
PIECE, STEPS = 256, 16
"""Tokens of a context that are read at once, and tokens that are timed after it."""
BASE = "Attention"
OPTIONS: dict[str, dict[str, Any]] = {
    "GlobalLocal": {"mask": Window(64, 64)},
    "LongformerAttention": {"mask": Window(64, 64)},
    "BigBirdAttention": {"block": 32, "random": 1},
}
"""Sizes at which a sparse pattern is sparse at these lengths."""
QUADRATIC = {
    "Attention", "BernoulliAttention", "CosineAttention", "DifferentialAttention", "FixedPointAttention", "GatedAttention",
    "LandmarkAttention", "LatentAttention", "MixtureKeys", "SegmentAttention", "SubsampledAttention", "TokenMatrix",
}  # fmt: skip
"""Those whose papers claim no less than the square."""
ALLOWANCE = 0.15
FIGURES = "forward_ms", "both_ms", "kept_mib", "peak_mib"
Figures = dict[str, float]
REFUSED = "memory", "could not create a primitive"
"""What PyTorch and oneDNN say where the system gives them no memory."""


def built(name: str, longest: int) -> Mixer:
    """A mixer for up to so many tokens, with the options above."""
    cls = ef.parts("mixers")[name]
    known = ef.specs.signature(cls)
    given = {option: value for option, value in (("heads", HEADS), ("length", longest)) if option in known}
    made: Mixer = ef.spec(cls, **given, **OPTIONS.get(name, {})).build(WIDTH).eval()
    return made


def mixers(longest: int) -> dict[str, Mixer]:
    """Every mixer of tokens that can be made of a width, heads, a length and the options above."""
    found = {}
    for name, cls in ef.parts("mixers").items():
        if not issubclass(cls, Mixer):
            continue
        try:
            made = built(name, longest)
        except (EveryformerError, TypeError):
            continue
        if not {"memory", "grid", "condition"} & made.capabilities:
            found[name] = made
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


def peak(mixer: Mixer, count: int) -> int:
    """Bytes that are alive at most in a forward and a backward pass, beside the mixer's own weights."""
    with Live() as live:
        passes(mixer, count, True)()
    return live.peak


def passes(mixer: Mixer, count: int, backward: bool) -> Callable[[], None]:
    """One forward pass, or one with its backward pass."""
    given = tokens(count)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            answer = mix(mixer, given, context(mixer))
        if backward:
            answer.square().sum().backward()

    return run


@torch.no_grad()
def generating(mixer: Mixer, contexts: Sequence[int]) -> dict[str, Any]:
    """Tokens a second after each context, the mebibytes that the cache then holds, and whether all of that is a state."""
    cache = Cache()
    generator = torch.Generator().manual_seed(0)

    def read(count: int) -> float:
        places = torch.arange(cache.count, cache.count + count)[None, :, None]
        given = Tokens(torch.randn(1, count, WIDTH, generator=generator), positions=places)
        started = time.process_time()
        mix(mixer, given, Context(mask=Causal(), cache=cache))
        cache.advance(given)
        return time.process_time() - started

    found: dict[str, list[float]] = {"tokens_per_second": [], "held_mib": []}
    for context in contexts:
        while cache.count < context:
            read(min(PIECE, context - cache.count))
        found["held_mib"].append(round(cache.bytes / 2**20, 4))
        found["tokens_per_second"].append(round(1 / statistics.median(read(1) for _ in range(STEPS)), 1))
    return {**found, "state": not cache.columns}


def incremental(mixer: Mixer) -> bool:
    """Whether it works token by token in a causal place."""
    return "incremental" in mixer.capabilities and bool({"causal", "masked"} & mixer.capabilities)


def exponent(lengths: Sequence[int], figures: Sequence[float]) -> float:
    """The power of the length that fits best (least squares of the logarithms)."""
    x, y = [math.log(n) for n in lengths], [math.log(max(f, 1e-9)) for f in figures]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def affordable(found: dict[str, list[float]], times: float, seconds: float) -> bool:
    """Whether a pass over so many times the tokens ends in time, if its time grows as the square."""
    return found["both_ms"][-1] * times**2 <= seconds * 1000


@contextmanager
def limited(gib: float) -> Iterator[None]:
    """The system refuses what this process asks for beyond so many gibibytes more (Linux)."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + int(gib * 2**30), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def memory(mixer: Mixer, count: int) -> dict[str, float]:
    """Mebibytes kept for a backward pass and alive at most."""
    found = {"peak_mib": peak(mixer, count), "kept_mib": kept(mixer, tokens(count))}
    return {name: round(size / 2**20, 3) for name, size in found.items()}


def figures(name: str, count: int, repeats: int, gib: float) -> dict[str, float]:
    """Times and memory of a mixer; a `MemoryError` where it asks for more."""
    mixer = built(name, count)
    runs = {"forward_ms": passes(mixer, count, False), "both_ms": passes(mixer, count, True)}
    try:
        with limited(gib):
            return {**memory(mixer, count), **milliseconds(in_turns(runs, repeats, warm_up=0))}
    except RuntimeError as error:
        if not any(word in str(error) for word in REFUSED):
            raise
        raise MemoryError from None


def apart(act: Callable[[], Figures]) -> Figures | None:
    """What a copy of this process finds, so that what one mixer leaves behind is no other's; none without the memory for it."""
    forked = multiprocessing.get_context("fork")
    here, there = forked.Pipe(duplex=False)

    def run() -> None:
        try:
            there.send(act())
        except MemoryError:
            there.send(None)

    process = forked.Process(target=run)
    process.start()
    there.close()
    try:
        return here.recv()  # type: ignore[no-any-return]
    except EOFError:
        raise SystemExit("a measurement ended without a figure; what it said stands above") from None
    finally:
        process.join()


def main() -> None:
    """Measure, print and write `benchmarks/mixers.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the longest")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="how many tokens")
    parser.add_argument("--gib", type=float, default=8, help="memory that a pass may take")
    parser.add_argument("--seconds", type=float, default=30, help="time that a pass may take")
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=CONTEXTS, help="tokens before those that are generated"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lengths = options.lengths[:-1] if options.quick else options.lengths
    contexts = options.contexts[:-1] if options.quick else options.contexts
    found = mixers(min(lengths))
    grown: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in found}
    left = list(found)
    for place, count in enumerate(lengths):
        if place > 1:
            left = [n for n in left if affordable(grown[n], count / lengths[place - 1], options.seconds)]
        now = {name: apart(partial(figures, name, count, options.repeats, options.gib)) for name in left}
        left = [name for name in left if now[name]]
        for name in left:
            for figure in FIGURES:
                grown[name][figure].append(now[name][figure])
        print(f"{count} tokens: {len(left)} of {len(found)}", flush=True)
    report: dict[str, Any] = {}
    base = grown[BASE]["both_ms"]
    print(f"{'mixer':<22}{'forward':>9}{'both':>9}{'kept':>9}{'peak':>9}   faster from")
    for name, each in grown.items():
        powers = {
            key: round(exponent(lengths[: len(values)], values), 2) for key, values in each.items() if len(values) > 1
        }
        ahead = [a < b for a, b in zip_longest(each["both_ms"][: len(base)], base, fillvalue=math.inf)]
        faster = next((n for i, n in enumerate(lengths[: len(base)]) if all(ahead[i:])), None)
        report[name] = {**each, "exponents": powers, "faster_from": faster}
        print(f"{name:<22}" + "".join(f"{'N^' + str(p):>9}" for p in powers.values()) + f"   {faster or '-'}")
    print(
        f"\n{'mixer':<22}"
        + "".join(f"{n:>10}" for n in contexts)
        + "   tokens a second after so many; what is held grows"
    )
    for name in filter(lambda name: incremental(found[name]), found):
        each = report[name]["generating"] = generating(built(name, max(contexts) + STEPS), contexts)
        speeds, held = each["tokens_per_second"], each["held_mib"]
        times = held[-1] / held[0] if held[0] else 1.0
        print(f"{name:<22}" + "".join(f"{n:>10,.0f}" for n in speeds) + f"{times:>9.1f} times", flush=True)
    write(__file__, lengths=lengths, contexts=contexts, width=WIDTH, heads=HEADS, mixers=report)
    kept_more = [
        name for name, each in report.items()
        if each.get("generating", {}).get("state") and len({*each["generating"]["held_mib"]}) > 1
    ]  # fmt: skip
    if kept_more:
        raise SystemExit(f"a state grows with what was read: {', '.join(kept_more)}")
    above = [
        name
        for name in found
        if name not in QUADRATIC and report[name]["exponents"].get("kept_mib", math.inf) > 1.5 + ALLOWANCE
    ]
    if above:
        raise SystemExit(f"memory grows as the square, or nearly: {', '.join(above)}")


if __name__ == "__main__":
    main()
