"""Experiments about spreading models over many devices: what can be checked without them."""

from __future__ import annotations

from everyformer.devices import DEVICES, GIB
from everyformer.evidence.harness import Finding, evidence
from everyformer.generation.partition import GATHERED, STATIONARY, Shape, longest_context, partition, utilisation

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
        "holds" if holds else "does not hold at this scale",
        f"all four settings get the published layout; the model's bound is {pairs}; contexts of table 1 agree to {worst:.1%} and "
        f"grow {gain:.0f} times" if holds else f"other layouts or bounds for: {', '.join(faults) or 'none'}; gain {gain:.1f}",
        {"table_2": rows, "contexts": contexts, "largest_error_of_table_1": round(worst, 4), "gain": round(gain, 2)},
    )  # fmt: skip
