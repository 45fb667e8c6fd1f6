"""Attention over a sequence that processes hold together is attention over the whole, and so is a model of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef

WORLD = 2
SCRIPT = """
import sys
import torch
import torch.distributed as dist
import everyformer as ef

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
given = torch.load(f"{folder}/given.pt")
found = {}
for causal in (False, True):
    mine = [each.chunk(world, 2)[rank].clone().requires_grad_() for each in given["operands"]]
    output = ef.mixers.ring_attention(*mine, causal=causal, size=5)
    output.backward(given["grad"].chunk(world, 2)[rank])
    found[causal] = [output.detach(), *(each.grad for each in mine)]
model = ef.Design.from_yaml(given["design"]).build(seed=0)
with ef.mixers.sequence_over():
    logits = model(given["inputs"].chunk(world, 1)[rank])
    (logits * given["weights"].chunk(world, 1)[rank]).sum().backward()
for each in model.parameters():
    dist.all_reduce(each.grad)
found["model"] = [logits.detach(), *(each.grad for each in model.parameters())]
torch.save(found, f"{folder}/{rank}.pt")
"""


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Outputs and gradients, causal or not, keys shared by heads, scores up to 40; and a whole model with its places."""
    operands = [torch.randn(2, heads, 24, 8) for heads in (4, 2, 2)]
    operands[0] *= 5
    plain = ef.design("llama", vocabulary=19, width=16, depth=2, heads=4, key_heads=2, hidden=24)
    options = {"heads": 4, "key_heads": 2, "bias": False, "positions": ef.spec(ef.positions.Rotary)}
    ring = plain.swap("backbone.blocks.*.mixer", ef.spec(ef.mixers.RingAttention, size=3, **options))
    inputs = torch.randint(0, 19, (3, 12))
    given = {
        "operands": operands, "grad": torch.randn(2, 4, 24, 8), "design": ring.to_yaml(), "inputs": inputs,
        "weights": torch.randn(3, 12, 19),
    }  # fmt: skip
    torch.save(given, tmp_path / "given.pt")
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "run.py", tmp_path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([*command, str(rank), str(WORLD)], env=environment) for rank in range(WORLD)]
    assert [each.wait(120) for each in running] == [0] * WORLD
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]

    for causal in (False, True):
        whole = [each.clone().requires_grad_() for each in operands]
        output = F.scaled_dot_product_attention(*whole, is_causal=causal, enable_gqa=True)
        output.backward(given["grad"])
        for i, wanted in enumerate([output.detach(), *(each.grad for each in whole)]):
            torch.testing.assert_close(torch.cat([part[causal][i] for part in parts], 2), wanted, atol=1e-5, rtol=1e-5)

    model = ring.build(seed=0)
    logits = model(inputs)
    torch.testing.assert_close(logits, plain.build(seed=0)(inputs), atol=1e-6, rtol=0)
    (logits * given["weights"]).sum().backward()
    joined = torch.cat([part["model"][0] for part in parts], 1)
    torch.testing.assert_close(joined, logits.detach(), atol=1e-5, rtol=1e-5)
    for part in parts:
        for found, own in zip(part["model"][1:], model.parameters(), strict=True):
            torch.testing.assert_close(found, own.grad, atol=1e-4, rtol=1e-5)


def test_positions_that_add_to_the_scores_are_refused() -> None:
    mixer = ef.mixers.RingAttention(16, heads=2, positions=ef.spec(ef.positions.ALiBi))
    tokens = ef.Tokens(torch.randn(1, 4, 16))
    mixer(tokens)
    with (
        ef.mixers.sequence_over(),
        pytest.raises(ef.DoesNotFit, match="ALiBi adds to the scores, which no process has"),
    ):
        mixer(tokens)
