"""An encoder beside its peers: equal lengths and real sentences, the same format and each library's best.

    python -m benchmarks.encoder [--repeats 7] [--quick]

Width 512, 8 heads, 6 layers, feedforward 2048, random weights. The sentences are English captions of Multi30k
(EVERYFORMER_DATA), in the order of the file, as a service would meet them; the peers take them padded, we take them packed.
Processor time of one thread, in turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from x_transformers import Encoder

import everyformer as ef
from benchmarks.paired import OURS, against_fastest, in_turns, write
from everyformer.data import find_task
from everyformer.training.precision import choose

WIDTH, HEADS, DEPTH, HIDDEN, VOCABULARY = 512, 8, 6, 2048, 10000
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
BARS = {
    "equal lengths, same format": 1.0,
    "64 sentences, same format": 1.5,
    "256 sentences, same format": 2.5,
    "equal lengths, defaults": 3.0,
    "64 sentences, defaults": 5.0,
    "256 sentences, defaults": 10.0,
}


class TorchEncoder(nn.Module):
    """torch's own encoder, which leaves out padding by nested tensors on its fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, DEPTH)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        return self.encoder(self.table(ids), src_key_padding_mask=None if mask is None else ~mask)


class XTransformers(nn.Module):
    """x-transformers with flash attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = Encoder(dim=WIDTH, depth=DEPTH, heads=HEADS, attn_flash=True, ff_mult=HIDDEN // WIDTH)

    def forward(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        return self.encoder(self.table(ids), mask=mask)


def models() -> dict[str, nn.Module]:
    """The contenders in float32."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
        intermediate_size=HIDDEN, attn_implementation="sdpa",
    )  # fmt: skip
    ours = ef.create("bert", vocabulary=VOCABULARY, width=WIDTH, hidden=HIDDEN, depth=DEPTH, heads=HEADS)
    made = {
        OURS: ours,
        "transformers": BertModel(config, add_pooling_layer=False),
        "torch": TorchEncoder(),
        "x-transformers": XTransformers(),
    }
    return {name: model.eval() for name, model in made.items()}


def sentences(count: int) -> list[Tensor]:
    """Token ids of real captions."""
    task = find_task("translation").open(source="multi30k", input="en", target="de", vocabulary=VOCABULARY)
    return [torch.from_numpy(ids) for ids in task.parts["train"][0][:count]]


def passes(made: dict[str, nn.Module], rows: list[Tensor]) -> dict[str, Callable[[], Any]]:
    """One pass of each contender over the rows."""
    lengths = torch.tensor([len(row) for row in rows])
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    given = None if mask.all() else mask
    packed = torch.cat(rows)[None]

    def ours() -> Any:
        model = made[OURS]
        return model.features(ids) if given is None else model.features(packed, lengths=lengths)

    found = {
        OURS: ours,
        "transformers": lambda: made["transformers"](ids, attention_mask=given),
        "torch": lambda: made["torch"](ids, given),
        "x-transformers": lambda: made["x-transformers"](ids, given),
    }
    if given is not None and next(made["x-transformers"].parameters()).dtype == torch.bfloat16:
        del found["x-transformers"]  # with a mask its float32 zeros meet bfloat16 weights, which torch refuses
    return found


@torch.no_grad()
def main() -> None:
    """Measure, print and write `benchmarks/encoder.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    kinds = {
        "equal lengths 8x128": [torch.randint(VOCABULARY, (128,)) for _ in range(8)],
        "equal lengths 4x512": [torch.randint(VOCABULARY, (512,)) for _ in range(4)],
        "64 sentences": sentences(64),
        "256 sentences": sentences(256),
    }
    lines = []
    formats = {name: {k: m.to(dtype) for k, m in models().items()} for name, dtype in FORMATS.items()}
    default = choose("auto", WIDTH)
    for kind, rows in kinds.items():
        trials = {f"{name} all": passes(made, rows) for name, made in formats.items()}
        mixed = {**formats["fp32"], OURS: formats[default.name][OURS]}
        trials[f"{default.name} ours, fp32 theirs"] = passes(mixed, rows)
        for name, contenders in trials.items():
            line = {"what": kind, "format": name, **against_fastest(in_turns(contenders, repeats))}
            print(line, flush=True)
            lines.append(line)
    write(__file__, "transformers", "x-transformers", repeats=repeats, bars=BARS, default=str(default), lines=lines)


if __name__ == "__main__":
    main()
