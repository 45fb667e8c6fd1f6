"""Experiments about spreading models over many devices: what can be checked without them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from torch.nn.functional import scaled_dot_product_attention

from everyformer.devices import DEVICES, GIB
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.generation.partition import GATHERED, STATIONARY, Shape, longest_context, partition, utilisation
from everyformer.mixers import ring_attention
from everyformer.training.footprint import Live

TPU = DEVICES["tpu-v4"]
PALM = Shape(540_000_000_000, 118, 18432, 73728, 48, 1, 256, gated=True, parallel=True)
"""PaLM 540B (Pope et al., 2022, section 4)."""
MULTIHEAD = Shape(540_000_000_000, 118, 18432, 73728, 64, 64, 128, gated=True, parallel=True)
"""The same with keys for every head, of half the width so that attention has as many weights."""
TABLE_1 = {
    (128, "multihead"): 1320, (128, "multiquery by heads"): 660, (128, "multiquery by batch"): 43_000,
    (512, "multihead"): 330, (512, "multiquery by heads"): 165, (512, "multiquery by batch"): 10_700,
}  # fmt: skip
"""The longest contexts by batch and kind of attention, on 64 chips that give 30 % of their memory."""
TABLE_2 = {
    "prompt at once": (1, 2048, 1, 1.0, 0.29, 0.43, STATIONARY),
    "token by token at once": (64, 1, 64, 1.0, 1.82, 0.14, STATIONARY),
    "many prompts": (512, 2048, 1, 2.0, 85.2, 0.76, GATHERED),
    "many token by token": (512, 1, 64, 2.0, 6.0, 0.33, STATIONARY),
}
"""Batch, tokens in a step, steps, bytes of a weight, then seconds, share of the peak and layout as published."""


def longest(batch: int, kind: str) -> float:
    """A figure of table 1 by the model."""
    shape = MULTIHEAD if kind == "multihead" else PALM
    by = "batch" if kind.endswith("batch") else "heads"
    return longest_context(shape, by, memory=0.3 * 32 * GIB, chips=64, batch=batch)


@evidence(
    "scaling-transformer-inference", kind="claim",
    claim="The analytic model takes the layouts that were fastest on 64 TPU v4 (table 2), no measured step is faster than it "
    "says, and one head of keys cut over the batch gives the contexts of table 1, 32 times those of 64 heads",
)  # fmt: skip
def chosen_layouts() -> Finding:
    """Tables 1 and 2 of the paper against the model: layouts, bounds, utilisation and contexts."""
    rows, faults = {}, []
    for name, (batch, length, steps, size, seconds, share, weights) in TABLE_2.items():
        context = 2048 if length == 1 else 0
        best = partition(
            PALM, device=TPU, chips=64, batch=batch, length=length, context=context, weight_bytes=size
        )[0]  # fmt: skip
        reached = utilisation(PALM, TPU, chips=64, tokens=batch * length * steps, seconds=seconds)
        rows[name] = {
            "layout": str(best), "model_seconds": round(best.seconds * steps, 3), "published_seconds": seconds,
            "utilisation": round(reached, 3), "published_utilisation": share,
        }  # fmt: skip
        if best.weights != weights or best.seconds * steps > seconds or abs(reached - share) > 0.006:
            faults.append(name)
    contexts = {f"{kind}, batch {batch}": round(longest(batch, kind)) for batch, kind in TABLE_1}
    worst = max(abs(longest(*key) / published - 1) for key, published in TABLE_1.items())
    gain = longest(128, "multiquery by batch") / longest(128, "multihead")
    holds = not faults and worst < 0.02 and gain >= 31.9
    pairs = ", ".join(f"{r['model_seconds']:g} s of {r['published_seconds']:g} s" for r in rows.values())
    return Finding(
        verdict(holds),
        f"all four settings get the published layout; the model's bound is {pairs}; contexts of table 1 agree to {worst:.1%} and "
        f"grow {gain:.0f} times" if holds else f"other layouts or bounds for: {', '.join(faults) or 'none'}; gain {gain:.1f}",
        {"table_2": rows, "contexts": contexts, "largest_error_of_table_1": round(worst, 4), "gain": round(gain, 2)},
    )  # fmt: skip


WIDTH, KEYS, VANILLA = 16, 16, 512
"""Of one head, of the keys that have scores at once, and the length whose memory is the measure."""


def ring_worker(rank: int, world: int, length: int, folder: str) -> None:
    """One of the processes: attention forward and backward on its part; writes its peak of bytes and its error."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    generator = torch.Generator().manual_seed(0)
    whole = [torch.randn(1, 1, length, WIDTH, generator=generator) for _ in range(3)]
    parts = [each.chunk(world, 2)[rank].clone().requires_grad_() for each in whole]
    with Live() as live:
        for each in parts:
            live.watch(each)
        output = ring_attention(*parts, size=KEYS)
        output.sum().backward()
    wanted = scaled_dot_product_attention(parts[0].detach(), *whole[1:])
    error = float((output.detach() - wanted).abs().max())
    Path(folder, f"{rank}.json").write_text(json.dumps({"bytes": live.peak, "error": error}))
    dist.destroy_process_group()


def ring_cost(world: int, length: int) -> dict[str, float]:
    """The most bytes of tensors that a process of `world` has at once, and the largest error of all."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(ring_worker, (world, length, folder), nprocs=world)
        found = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    return {name: max(each[name] for each in found) for name in ("bytes", "error")}


def vanilla_cost(length: int) -> int:
    """The most bytes that are alive in softmax(q k^T) v and its gradients."""
    with Live() as live:
        query, key, value = (live.watch(torch.randn(1, 1, length, WIDTH).requires_grad_()) for _ in range(3))
        ((query @ key.mT * WIDTH**-0.5).softmax(-1) @ value).sum().backward()
    return live.peak


@evidence(
    "unified-long-sequence", kind="claim",
    claim="Distributed over four processes, attention reaches almost 40 times the scale of the vanilla form (abstract); read "
    "here as the length that fits the memory of one process.",
)  # fmt: skip
def forty_times_as_long() -> Finding:
    """Live bytes of forward and backward: vanilla at 512 tokens, four processes in a ring at 40 times as many."""
    room, length = vanilla_cost(VANILLA), 40 * VANILLA
    four = ring_cost(4, length)
    finding = (
        f"at {length:,} tokens each of four processes has {four['bytes'] / 2**20:.2f} MiB at most, vanilla attention at "
        f"{VANILLA} tokens {room / 2**20:.2f}; largest error {four['error']:.1e}"
    )
    holds = four["bytes"] <= room and four["error"] < 1e-5
    return Finding(verdict(holds), finding, {"vanilla": room, "four": four})
