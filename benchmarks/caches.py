"""Smaller caches: what they cost in quality and what they hold, on one small decoder of Shakespeare.

    python -m benchmarks.caches

The decoder of `everyformer.evidence.caches`, trained here at 256 characters: nats a character past the first 64 of held-out
pieces, token by token, with a share of the cache; processor time of one thread for each token of one sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.paired import write
from everyformer.cache import Cache, Policy
from everyformer.columns import Storage
from everyformer.context import Context
from everyformer.evidence.caches import LENGTH, decoder, held_out
from everyformer.generation import H2O, KIVI, TOVA, Keyformer, Sinks, loss_of_stream

SHARES = (0.5, 0.25, 0.125)
POLICIES: dict[str, Callable[[int], Policy]] = {
    "window": lambda room: Sinks(sinks=0, window=room),
    "streaming-llm": lambda room: Sinks(sinks=4, window=room - 4),
    "tova": lambda room: TOVA(keep=room),
    "h2o": lambda room: H2O(keep=room),
    "keyformer": lambda room: Keyformer(keep=room, generator=torch.Generator().manual_seed(0)),
}
STORAGES = {f"kivi, {bits} bits": KIVI(bits=bits, group=16, residual=32) for bits in (8, 4, 2)}


@torch.no_grad()
def held(policy: Policy | None, storage: Storage | None) -> dict[str, float]:
    """Bytes of the cache after one piece, and tokens a second of processor time."""
    context, model = Context(cache=Cache(policy, storage)), decoder().eval()
    begun = time.process_time()
    for token in held_out()[:1, :-1].split(1, 1):
        model.decode(token, context)
    return {"kilobytes": context.cache.bytes / 1000, "tokens_per_second": LENGTH / (time.process_time() - begun)}


def line(name: str, share: float, policy: Policy | None = None, storage: Storage | None = None) -> dict[str, object]:
    """One way to hold a share of the tokens."""
    loss = loss_of_stream(decoder(), held_out(), policy, segment=1, skip=64, storage=storage)
    return {"cache": name, "share": share, "loss": loss, **held(policy, storage)}


def main() -> None:
    """Measure, print and write `benchmarks/caches.json`."""
    torch.set_num_threads(1)
    lines = [line("all", 1.0)]
    lines += [line(name, 1.0, storage=storage) for name, storage in STORAGES.items()]
    for share in SHARES:
        lines += [line(name, share, make(round(share * LENGTH))) for name, make in POLICIES.items()]
    for each in lines:
        print(each)
    write(__file__, context=LENGTH, lines=lines)


if __name__ == "__main__":
    main()
