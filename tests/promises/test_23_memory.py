"""Promise 23: evaluation keeps no answers, loading holds the weights once, and watching keeps what is watched."""

from __future__ import annotations

import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from support.parts import make, tokens
from support.tiny_data import TINY

HELD = 3
"""Answers that may be alive at once: the one being made, the one before it, and its copy in float32."""


@pytest.mark.parametrize("name", TINY)
def test_evaluation_is_flat_in_the_number_of_samples(name: str, tmp_path: Path) -> None:
    """However many samples, no more than a few answers are alive at once."""
    tiny = TINY[name](tmp_path / "data")
    answers: list[weakref.ref[torch.UntypedStorage]] = []
    most = 0

    def watch(module: Any, given: Any, answer: torch.Tensor) -> None:
        nonlocal most
        answers.append(weakref.ref(answer))
        most = max(most, sum(each() is not None for each in answers))

    tiny.model.register_forward_hook(watch)
    tiny.task.evaluate(tiny.model, tiny.split, batch=1)
    assert len(answers) > 7
    assert most <= HELD


LOADING = """
import re, sys, threading, time
from pathlib import Path
import torch
from safetensors.torch import save_file
import everyformer as ef
from everyformer.costs import parameters
from everyformer.training.run import load_weights

torch.set_num_threads(1)

def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

design = ef.design("gpt", vocabulary=1000, length=64, width=512, depth=16, heads=8)
if sys.argv[1] == "save":
    model = design.build(seed=0)
    save_file({n: p.detach().clone() for n, p in model.named_parameters()}, sys.argv[2])
    sys.exit()
if sys.argv[1] == "export":
    ef.interop.to_folder(design.build(seed=0), Path(sys.argv[2]))
    sys.exit()
peak, over = 0, False

def watch():
    global peak
    while not over:
        peak = max(peak, own())
        time.sleep(0.002)

for device in ("cpu", "meta"):  # what torch keeps for itself
    ef.design("gpt", vocabulary=1000, length=64, width=512, depth=1, heads=8).build(seed=0, device=device)
before = own()
watcher = threading.Thread(target=watch)
watcher.start()
if sys.argv[1] == "open":
    model = ef.load(sys.argv[2])
else:
    model = design.build(seed=0)
    load_weights(model, sys.argv[2])
over = True
watcher.join()
print((peak - before) / (4 * parameters(model)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory of its own is read from /proc")
@pytest.mark.parametrize(("keep", "take", "name"), [("save", "load", "model.safetensors"), ("export", "open", "hf")])
def test_loading_holds_the_weights_once(keep: str, take: str, name: str, tmp_path: Path) -> None:
    """The memory of a process that loads a run's weights, or a checkpoint, grows by at most 1.2 times their size."""
    command = [sys.executable, "-c", LOADING]
    subprocess.run([*command, keep, str(tmp_path / name)], check=True)
    done = subprocess.run([*command, take, str(tmp_path / name)], check=True, capture_output=True, text=True)
    assert 0.8 < float(done.stdout) <= 1.2, "some of it lies where the process had freed memory"


def test_watching_one_layer_keeps_that_layer() -> None:
    """A tap holds what its hook keeps and nothing else: weights of other layers are never formed."""
    encoder = make("backbones.Encoder")
    kept: list[torch.Tensor] = []
    encoder.blocks[1].mixer.weights.register_forward_hook(lambda m, i, output: kept.append(output))
    calls = []
    encoder.blocks[0].mixer.weights.forward = lambda x: calls.append(1) or x
    encoder(tokens(8))
    assert [tuple(each.shape) for each in kept] == [(3, 4, 8, 8)]
    assert not calls
