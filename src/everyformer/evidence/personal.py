"""Evidence for making a model of code one project's own: packages of Python's standard library are the projects."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.compression.personal import WAYS, personalised
from everyformer.costs import parameters
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.long_decoders import streams

PROJECT = "asyncio"
OTHERS = ("collections", "concurrent", "ctypes", "email", "http", "importlib", "json", "logging", "unittest", "xml")
LENGTH, BATCH = 96, 16
SHAPE = {"vocabulary": 256, "width": 96, "depth": 3, "heads": 4, "length": LENGTH}
RATES = {
    "whole": (3e-4, 1e-3),
    "ends": (1e-3, 3e-3),
    "last-block": (1e-3, 3e-3),
    "prefix": (1e-2, 3e-2),
    "low-rank": (3e-3, 1e-2),
}
"""The rates that are tried: one is chosen on the project's validation part."""


def read(package: str) -> Tensor:
    """The bytes of a package's files, one after the other."""
    files = sorted((Path(sysconfig.get_paths()["stdlib"]) / package).rglob("*.py"))
    text = b"\n".join(path.read_bytes() for path in files if "test" not in path.parts)
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


@cache
def project() -> dict[str, Tensor]:
    """Rows of the project: its first seven tenths to learn from, of the next one some to choose by, of the last some to score on."""
    rows = streams(read(PROJECT), len(read(PROJECT)) // (LENGTH + 1))
    first, second = round(0.7 * len(rows)), round(0.8 * len(rows))
    return {"train": rows[:first], "valid": rows[first:second][:256], "test": rows[second:][:512]}


def loss(model: nn.Module, rows: Tensor) -> Tensor:
    """Nats a byte."""
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def trained(model: nn.Module, rows: Tensor, steps: int, lr: float) -> nn.Module:
    """What learns of a model, trained on rows."""
    generator = torch.Generator().manual_seed(0)

    def missed(step: int) -> Tensor:
        return loss(model, rows[torch.randint(len(rows), (BATCH,), generator=generator)])

    return descend(model, missed, steps, lr=lr, rate=warmed(20))


@torch.no_grad()
def scored(model: nn.Module, part: str) -> float:
    """Nats a byte on a part of the project."""
    rows = project()[part]
    return sum(loss(model, each).item() * len(each) for each in rows.split(64)) / len(rows)


@cache
def base() -> Any:
    """A GPT of bytes that has read other packages."""
    others = torch.cat([read(each) for each in OTHERS])
    model = ef.create("gpt", **SHAPE, seed=0)
    return trained(model, streams(others, len(others) // (LENGTH + 1)), 600, 3e-3)


@evidence(
    "personalized-code-generation",
    kind="claim",
    claim="Every way of making a model a project's own beats the model as it was; training all of it is the best and stores the "
    "most, a prefix stores next to nothing.",
)
def ways_of_personalising() -> Finding:
    """Bytes of asyncio after ten other packages, 100 steps each: nats on rows of its last fifth, and the share of numbers stored."""
    figures: dict[str, Any] = {"as it was": scored(base(), "test")}
    stored = {}
    for way in WAYS:
        tried = [trained(personalised(base(), way, seed=0), project()["train"], 100, lr) for lr in RATES[way]]
        best = min(tried, key=lambda model: scored(model, "valid"))
        figures[way] = scored(best, "test")
        stored[way] = sum(p.numel() for p in best.parameters() if p.requires_grad) / parameters(base())
    held = max(figures[way] for way in WAYS) < figures["as it was"] and stored["prefix"] < 0.02
    held = held and figures["whole"] <= min(figures[way] for way in WAYS) + 0.005
    said = ", ".join(f"{way} {figures[way]:.4f} ({stored[way]:.2%} stored)" for way in WAYS)
    return Finding(
        verdict(held), f"nats a byte: as it was {figures['as it was']:.4f}, {said}", {**figures, "stored": stored}
    )
