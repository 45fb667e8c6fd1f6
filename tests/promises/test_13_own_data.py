"""Promise 13: a folder of pictures and no option gives something better than logistic regression and a small ConvNet.

Three small sets, each a folder of PNG files with a subfolder a class: the handwritten digits, letters in many sizes and
turns on coloured grounds, and textures that differ in the direction of their stripes alone. The ConvNet has the
processor time that our training took.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from everyformer.data import find_task
from everyformer.evidence.runs import arrays, logistic_regression
from everyformer.training import Run


def digits(random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return [(str(label), (picture * 255 / 16).astype(np.uint8)) for picture, label in zip(found.images, found.target)]


def letters(random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    from PIL import Image, ImageDraw, ImageFont

    made = []
    for i in range(1200):
        letter = "ABCDEFGH"[i % 8]
        ground, ink = (tuple(int(v) for v in random.integers(0, 256, 3)) for _ in range(2))
        page = Image.new("RGB", (32, 32), ground)
        ImageDraw.Draw(page).text((16, 16), letter, ink, ImageFont.load_default(random.integers(16, 27)), anchor="mm")
        page = page.rotate(random.uniform(-25, 25), fillcolor=ground, translate=tuple(random.integers(-4, 5, 2)))
        made.append((letter, np.clip(np.asarray(page) + random.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)))
    return made


def stripes(random: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    made = []
    y, x = np.mgrid[:24, :24]
    for i in range(900):
        kind = i % 6
        turn = np.pi * kind / 6 + random.normal(0, 0.08)
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * random.uniform(0.6, 1.2) + random.uniform(0, 6.3))
        noisy = 128 + 50 * wave + random.normal(0, 40, (24, 24))
        made.append((f"{30 * kind} degrees", np.clip(noisy, 0, 255).astype(np.uint8)))
    return made


def folder(at: Path, made: list[tuple[str, np.ndarray]]) -> Path:
    from PIL import Image

    for i, (label, picture) in enumerate(made):
        (at / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(at / label / f"{i:05}.png")
    return at


def convnet(channels: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def convnet_for(seconds: float, inputs: dict[str, Tensor], labels: dict[str, Tensor]) -> float:
    """Test accuracy of a small ConvNet after so much processor time, with AdamW and a rate that falls to zero."""
    torch.manual_seed(0)
    model = convnet(inputs["train"].shape[1], int(labels["train"].max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    started = time.process_time()
    while (share := (time.process_time() - started) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - share)
        rows = torch.randint(len(labels["train"]), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs["train"][rows]), labels["train"][rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return float((model.eval()(inputs["test"]).argmax(1) == labels["test"]).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("made", [digits, letters, stripes])
def test_pictures_without_an_option(
    made: Callable[[np.random.Generator], list[tuple[str, np.ndarray]]], tmp_path: Path
) -> None:
    own = folder(tmp_path / "own", made(np.random.default_rng(0)))
    command = [sys.executable, "-c", "from everyformer.cli import main; main()", "train", str(own)]
    subprocess.run([*command, "training.threads=1", "--out", str(tmp_path / "run")], check=True, capture_output=True)
    run = Run.open(tmp_path / "run")
    task = find_task(run.recipe.task).open(**run.recipe.data)
    flat, labels = arrays(task)
    regression = logistic_regression(flat, labels)
    inputs = {split: task.batch(split, range(task.size(split)))["inputs"] for split in ("train", "test")}
    ours, took = run.result["metrics"]["accuracy"], run.result["training_seconds"]
    network = convnet_for(took, inputs, {split: torch.from_numpy(each) for split, each in labels.items()})
    print(f"\n{made.__name__}: {ours:.4f} in {took:.0f} s; logistic regression {regression:.4f}; ConvNet {network:.4f}")
    assert ours > regression
    assert ours >= network
