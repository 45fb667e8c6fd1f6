"""Generation beside Hugging Face's `generate`, with equal weights, in turns in one run.

    python -m benchmarks.generation [--repeats 3] [--tokens 64]

Width 512, 8 heads, 6 layers (3 and 3 for the encoder-decoder). Processor time of one thread. Ours also in the format chosen
for the machine, and in that with the weights of the blocks in 8 bits (`rtn`, whose loss `benchmarks.compression` shows).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from benchmarks.paired import OURS, in_turns, milliseconds, ratio, write
from everyformer.compression import rtn
from everyformer.generation import Beam, Greedy, Sample, generate
from everyformer.interop import from_transformers
from everyformer.training.precision import choose

WIDTH = 512
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BARS = {"same format": 1.1, "best format, batch 1": 2.0, "best format, batch 16": 3.0, "beam": 3.0}
VOCABULARY, PROMPT = 8000, 32
STRATEGIES = {
    "greedy": (Greedy(), {"do_sample": False}),
    "beam 5": (Beam(size=5), {"do_sample": False, "num_beams": 5, "early_stopping": True}),
    "sample": (Sample(top_k=50, top_p=0.9), {"do_sample": True, "top_k": 50, "top_p": 0.9}),
}
Run = Callable[[], list[list[int]]]


def pair(kind: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and theirs with the same random weights; no token ends a sequence."""
    torch.manual_seed(0)
    if kind == "decoder":
        config = GPT2Config(vocab_size=VOCABULARY, n_positions=512, n_embd=WIDTH, n_layer=6, n_head=8, bos_token_id=1)
        theirs = GPT2LMHeadModel(config).eval()
        ours = from_transformers(theirs)
    else:
        config = T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=64,
            d_ff=2048,
            num_layers=3,
            num_heads=8,
            decoder_start_token_id=1,
        )
        theirs = T5ForConditionalGeneration(config).eval()
        ours = from_transformers(theirs)
    theirs.generation_config.eos_token_id = None
    return ours, theirs


def runs(
    kind: str, strategy: str, batch: int, tokens: int, dtype: torch.dtype, rounded: bool = False
) -> tuple[Run, Run]:
    """One run of ours and one of theirs, each giving its new tokens."""
    ours, theirs = pair(kind)
    ours = (rtn(ours, bits=8, symmetric=True) if rounded else ours).to(dtype)
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


def measure(kind: str, strategy: str, batch: int, tokens: int, repeats: int) -> list[dict[str, object]]:
    """Ours and theirs in float32, and ours in the format chosen for the machine beside theirs in float32."""
    mine, other = runs(kind, strategy, batch, tokens, torch.float32)
    first, second = mine(), other()
    assert {len(row) for row in (*first, *second)} == {tokens}
    half, _ = runs(kind, strategy, batch, tokens, FORMATS[choose("auto", WIDTH).name])
    light, _ = runs(kind, strategy, batch, tokens, torch.bfloat16, rounded=True)
    tried = {OURS: mine, "ours, default format": half, "ours, 8 bits": light, "transformers": other}
    seconds = in_turns(tried, repeats)
    found = {"model": kind, "strategy": strategy, "batch": batch}
    return [
        found | {
            "milliseconds": milliseconds(seconds),
            "times_as_fast": ratio(seconds, "transformers", OURS),
            "default_times_as_fast": ratio(seconds, "transformers", "ours, default format"),
            "8 bits, times_as_fast": ratio(seconds, "transformers", "ours, 8 bits"),
            "same_tokens": None if strategy == "sample" else first == second,
        }
    ]  # fmt: skip


def main() -> None:
    """Measure, print and write `benchmarks/generation.json`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--tokens", type=int, default=64)
    given = options.parse_args()
    torch.set_num_threads(1)
    lines = []
    for kind in ("decoder", "encoder-decoder"):
        for strategy in STRATEGIES:
            for batch in (1, 16):
                lines += measure(kind, strategy, batch, given.tokens, given.repeats)
                print(lines[-1], flush=True)
    write(
        __file__, "transformers", prompt=PROMPT, tokens=given.tokens, repeats=given.repeats, bars=BARS,
        default=str(choose("auto", WIDTH)), lines=lines,
    )  # fmt: skip


if __name__ == "__main__":
    main()
