"""Tokens per second of generation beside Hugging Face's `generate`, with equal weights, paired in one run.

python benchmarks/generation.py [--repeats 5] [--tokens 64] [--out benchmarks/generation.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

import everyformer as ef
from everyformer.generation import Beam, Greedy, Sample, generate
from everyformer.interop import gpt, t5

VOCABULARY, PROMPT = 8000, 32
STRATEGIES = {
    "greedy": (Greedy(), {"do_sample": False}),
    "beam 4": (Beam(size=4), {"do_sample": False, "num_beams": 4, "early_stopping": True}),
    "sample": (Sample(top_k=50, top_p=0.9), {"do_sample": True, "top_k": 50, "top_p": 0.9}),
}
Run = Callable[[], list[list[int]]]


def pair(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and theirs with the same random weights; no token ends a sequence."""
    torch.manual_seed(0)
    if kind == "decoder":
        config = GPT2Config(vocab_size=VOCABULARY, n_positions=512, n_embd=256, n_layer=6, n_head=8, bos_token_id=1)
        theirs = GPT2LMHeadModel(config).eval()
        ours = gpt.from_transformers(theirs)
    else:
        config = T5Config(
            vocab_size=VOCABULARY, d_model=256, d_kv=32, d_ff=1024, num_layers=4, num_heads=8, decoder_start_token_id=1
        )
        theirs = T5ForConditionalGeneration(config).eval()
        ours = t5.from_transformers(theirs)
    theirs.generation_config.eos_token_id = None
    return ours, theirs


def runs(kind: str, strategy: str, batch: int, tokens: int) -> tuple[Run, Run]:
    """One run of ours and one of theirs, each giving its new tokens."""
    ours, theirs = pair(kind)
    chosen, options = STRATEGIES[strategy]
    ids = torch.randint(2, VOCABULARY, (batch, PROMPT), generator=torch.Generator().manual_seed(1))
    begin = {} if kind == "decoder" else {"bos": 1}

    def mine() -> list[list[int]]:
        return generate(ours, ids, eos=None, pad=0, max_tokens=tokens, strategy=chosen, **begin)

    def other() -> list[list[int]]:
        answer = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, pad_token_id=0, **options
        )
        return answer[:, PROMPT if kind == "decoder" else 1 :].tolist()

    return mine, other


def measure(kind: str, strategy: str, batch: int, tokens: int, repeats: int) -> dict[str, object]:
    """The median of paired runs, ours and theirs in turn."""
    mine, other = runs(kind, strategy, batch, tokens)
    first, second = mine(), other()
    assert {len(row) for row in (*first, *second)} == {tokens}
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        marks = [time.perf_counter()]
        for run in (mine, other):
            run()
            marks.append(time.perf_counter())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    total = batch * tokens
    return {
        "model": kind,
        "strategy": strategy,
        "batch": batch,
        "everyformer_tokens_per_s": round(total / statistics.median(a for a, _ in times), 1),
        "transformers_tokens_per_s": round(total / statistics.median(b for _, b in times), 1),
        "times_as_fast": round(statistics.median(b / a for a, b in times), 2),
        "same_tokens": None if strategy == "sample" else first == second,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    found, load = [], round(os.getloadavg()[0], 1)
    for kind in ("decoder", "encoder-decoder"):
        for strategy in STRATEGIES:
            for batch in (1, 8):
                found.append(measure(kind, strategy, batch, given.tokens, given.repeats))
                print(json.dumps(found[-1]), flush=True)
    report = {
        "command": "python benchmarks/generation.py",
        "machine": {"cpu": platform.machine(), "threads": given.threads, "load_before": load},
        "versions": {
            "everyformer": ef.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
        },
        "prompt": PROMPT,
        "tokens": given.tokens,
        "repeats": given.repeats,
        "results": found,
    }  # fmt: skip
    given.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
