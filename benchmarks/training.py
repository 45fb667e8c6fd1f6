"""Training beside the peers: a step at equal lengths, and real tokens a second on Multi30k beside Seq2SeqTrainer.

    python -m benchmarks.training [--repeats 5] [--steps 30]

The step is forward, loss, backward and AdamW on the encoder of `benchmarks.encoder` with 8 x 128 tokens: in float32 for all,
under bfloat16 autocast for all, and each library's default (ours is chosen for the machine, theirs is float32). On
Multi30k both train the Transformer-Tiny (4+4 layers, width 128) on the same token ids, theirs with Hugging Face's trainer
as it comes (64 samples a step, padded), ours with the recipe. Processor time of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

from benchmarks.encoder import VOCABULARY, WIDTH, models
from benchmarks.paired import OURS, against_fastest, in_turns, write
from everyformer.data import find_task
from everyformer.recipe import load_recipe
from everyformer.training import train
from everyformer.training.precision import choose

BARS = {"same format": 1.0, "defaults": 2.0, "Multi30k, defaults": 4.0}
BATCH, LENGTH = 8, 128


def stepper(model: nn.Module, answer: Callable[[], Tensor], half: bool) -> Callable[[], None]:
    """One training step of a model towards arbitrary values."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    wanted = torch.randn(BATCH, LENGTH, WIDTH)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
            loss = (answer().float() - wanted).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def contenders(halves: dict[str, bool]) -> dict[str, Callable[[], None]]:
    """A step of each library, under bfloat16 autocast where `halves` says so."""
    made = {name: model.train() for name, model in models().items()}
    for model in made.values():
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
    ids = torch.randint(VOCABULARY, (BATCH, LENGTH))
    answers: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: made[OURS].features(ids).values,
        "transformers": lambda: made["transformers"](ids).last_hidden_state,
        "torch": lambda: made["torch"](ids, None),
        "x-transformers": lambda: made["x-transformers"](ids, None),
    }
    return {name: stepper(made[name], answer, halves[name]) for name, answer in answers.items()}


def equal_lengths(repeats: int) -> list[dict[str, Any]]:
    """The step of every library in the same format, and in each one's default."""
    ours = choose("auto", WIDTH).name == "bf16"
    names = (OURS, "transformers", "torch", "x-transformers")
    kinds = {
        "fp32 all": dict.fromkeys(names, False),
        "bf16 autocast all": dict.fromkeys(names, True),
        "defaults": {name: ours and name == OURS for name in names},
    }
    lines = []
    for kind, halves in kinds.items():
        lines.append({"what": "step 8x128", "format": kind, **against_fastest(in_turns(contenders(halves), repeats))})
        print(lines[-1], flush=True)
    return lines


def ours_on_multi30k(steps: int) -> dict[str, float]:
    """Real target tokens a second of the recipe."""
    overrides = ("training.epochs=null", f"training.steps={steps}", "training.threads=1", "decoding.max_tokens=1",
                 f"training.evaluate_every={steps + 1}")  # fmt: skip
    recipe = load_recipe("multi30k", overrides)
    task = find_task(recipe.task).open(**recipe.data)
    seen: list[tuple[float, int]] = []
    batch = task.batch

    def counted(split: str, indices: Any, *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        made = batch(split, indices, train=train, seed=seed)
        if train:
            seen.append((time.process_time(), int((made["labels"] >= 0).sum())))
        return made

    task.batch = counted
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, folder, task=task, overwrite=True, progress=False)
    return rate(seen[:steps])


def theirs_on_multi30k(steps: int) -> dict[str, float]:
    """Real target tokens a second of Seq2SeqTrainer with Marian of the same size, on the same ids."""

    task = find_task("translation").open(**load_recipe("multi30k").data)
    size = task.facts["vocabulary"]
    config = MarianConfig(
        vocab_size=size, d_model=128, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=256, decoder_ffn_dim=256, dropout=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, forced_eos_token_id=2, max_position_embeddings=256,
    )  # fmt: skip
    rows = [
        {"input_ids": s.tolist(), "attention_mask": [1] * len(s), "labels": t.tolist()}
        for s, t in zip(*task.parts["train"])
    ]
    seen: list[tuple[float, int]] = []

    model = MarianMTModel(config)

    def padded(values: list[list[int]], fill: int) -> Tensor:
        return nn.utils.rnn.pad_sequence([torch.tensor(each) for each in values], True, fill)

    def collate(features: list[dict[str, Any]]) -> dict[str, Tensor]:
        labels = padded([each["labels"] for each in features], -100)
        seen.append((time.process_time(), int((labels >= 0).sum())))
        return {
            "input_ids": padded([each["input_ids"] for each in features], 0),
            "attention_mask": padded([each["attention_mask"] for each in features], 0),
            "labels": labels, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels),
        }  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        given = Seq2SeqTrainingArguments(
            folder, per_device_train_batch_size=64, max_steps=steps, label_smoothing_factor=0.1, learning_rate=5e-4,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        Seq2SeqTrainer(model, given, data_collator=collate, train_dataset=rows).train()
    return rate(seen[:steps])


def rate(seen: list[tuple[float, int]]) -> dict[str, float]:
    """Tokens a second of processor time between the first batch made and the last, the first quarter left out."""
    kept = seen[len(seen) // 4 :]
    seconds, tokens = kept[-1][0] - kept[0][0], sum(count for _, count in kept[:-1])
    return {"tokens_per_second": round(tokens / seconds, 1), "tokens_per_step": round(tokens / (len(kept) - 1), 1)}


def main() -> None:
    """Measure, print and write `benchmarks/training.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = equal_lengths(given.repeats)
    multi30k = {OURS: ours_on_multi30k(given.steps), "Seq2SeqTrainer": theirs_on_multi30k(given.steps)}
    multi30k["times_as_fast"] = round(
        multi30k[OURS]["tokens_per_second"] / multi30k["Seq2SeqTrainer"]["tokens_per_second"], 3
    )  # fmt: skip
    print(multi30k)
    write(
        __file__, "transformers", "x-transformers", "accelerate", repeats=given.repeats, steps=given.steps, bars=BARS,
        default=str(choose("auto", WIDTH)), lines=lines, multi30k=multi30k,
    )  # fmt: skip


if __name__ == "__main__":
    main()
