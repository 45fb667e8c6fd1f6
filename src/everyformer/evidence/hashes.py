"""Evidence for attention by hashing, and for attention to blocks by their landmarks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.pyramids import SMALL, result
from everyformer.evidence.recurrences import loss
from everyformer.mixers import HashFeatures
from everyformer.registry import find_system


def kept(depth: int, system: str, **more: Any) -> int:
    """Bytes that a forward pass of 4 x 64 tokens keeps for its backward pass, the weights left out."""
    options = {"vocabulary": 65, "width": 64, "depth": depth, "heads": 4, "length": 64, **more}
    model = find_system(system).design("nano", **options).build(seed=0).train()
    storages = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}

    def pack(x: Tensor) -> Tensor:
        storages.setdefault(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        answer = model(torch.zeros(4, 64, dtype=torch.long))
    total = sum(storages.values())
    del answer
    return total


@evidence(
    "reformer",
    kind="claim",
    claim="It is as good as a Transformer, and what training keeps does not grow with the layers (section 5, table 1).",
)
def reformer_keeps_nothing() -> Finding:
    """Shakespeare at width 64, loss at most 2 % above GPT-2's; bytes kept at 2 and at 8 layers."""
    losses = {name: loss(name) for name in ("reformer", "gpt")}
    grown = {name: kept(8, name) / kept(2, name) for name in ("reformer", "gpt")}
    holds = losses["reformer"] <= 1.02 * losses["gpt"] and grown["reformer"] < 1.01 < grown["gpt"]
    finding = (
        f"{losses['reformer']:.4f} nats a character against GPT-2's {losses['gpt']:.4f}; from 2 to 8 layers what is kept grows "
        f"{grown['reformer']:.2f} times (GPT-2: {grown['gpt']:.2f})"
    )
    return Finding(verdict(holds), finding, {"losses": losses, "grown": grown})


@evidence(
    "ecoformer",
    kind="claim",
    claim="Learned codes lose little accuracy to softmax, and keep similarity better than random ones (tables 1 and 5).",
)
def ecoformer_codes() -> Finding:
    """Digits, ten epochs, at most 3 points below PVT v2 with full attention; 16 bits for tokens of width 16."""
    accuracy = {
        "codes": result("ecoformer")["metrics"]["accuracy"],
        "softmax": result("pvt-v2", **SMALL["ecoformer"], reductions=[1, 1])["metrics"]["accuracy"],
    }
    torch.manual_seed(0)
    # tokens that are alike in clusters, as those of pictures are
    x = F.normalize(torch.randn(4, 1, 8, 16).repeat_interleave(16, 2) + 0.5 * torch.randn(4, 1, 128, 16), dim=-1)
    features = HashFeatures(16)

    def like(code: Tensor) -> float:
        pairs = torch.stack(((code @ code.mT).flatten(), (x @ x.mT).flatten()))
        return torch.corrcoef(pairs)[0, 1].item()

    alike = {"random hyperplanes": like((x @ torch.randn(16, 16)).sign()), "random functions": like(features.code(x))}
    features.fit(x, generator=torch.Generator().manual_seed(0))
    alike["learned functions"] = like(features.code(x))
    holds = accuracy["codes"] >= accuracy["softmax"] - 0.03 and alike["learned functions"] == max(alike.values())
    told = ", ".join(f"{name} {each:.3f}" for name, each in alike.items())
    finding = f"accuracy {accuracy['codes']:.4f} against {accuracy['softmax']:.4f}; correlation of similarities: {told}"
    figures = {"accuracy": accuracy, "correlation": alike}
    return Finding(verdict(holds), finding, figures)


def pass_key(batch: int, length: int, generator: torch.Generator, keys: int = 16) -> tuple[Tensor, Tensor]:
    """Noise with one pair (mark, key) somewhere, and the mark again at the end: which key was it?"""
    inputs = torch.randint(keys + 1, keys + 33, (batch, length), generator=generator)
    labels = torch.randint(keys, (batch,), generator=generator)
    places = torch.randint(length - 3, (batch, 1), generator=generator)
    inputs.scatter_(1, places, keys).scatter_(1, places + 1, labels[:, None])
    inputs[:, -1] = keys
    return inputs, labels


def _often(batch: int, length: int, generator: torch.Generator, keys: int = 16) -> tuple[Tensor, Tensor]:
    """The same with the pair in the first half and sixteen marks after it, each of which asks; -100 where nothing is asked."""
    inputs = torch.randint(keys + 1, keys + 33, (batch, length), generator=generator)
    key = torch.randint(keys, (batch, 1), generator=generator)
    place = torch.randint(length // 2, (batch, 1), generator=generator)
    asked = torch.randint(length // 2 + 2, length, (batch, 16), generator=generator)
    inputs.scatter_(1, place, keys).scatter_(1, place + 1, key).scatter_(1, asked, keys)
    return inputs, torch.full_like(inputs, -100).scatter_(1, asked, key.expand(-1, 16))


def _taught(model: nn.Module, steps: int, generator: torch.Generator) -> None:
    """Train a decoder on pass keys, at 64 tokens and then at 256."""

    def missed(step: int) -> Tensor:
        inputs, labels = _often(16, 64 if step < steps // 2 else 256, generator)
        return F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten(), ignore_index=-100)

    descend(model, missed, steps, lr=3e-3, rate=warmed(50))


def found(model: nn.Module, length: int, generator: torch.Generator, cases: int = 64) -> float:
    """The share of pass keys that a model names."""
    right = 0
    with torch.no_grad():
        for _ in range(cases):
            inputs, labels = pass_key(1, length, generator)
            right += int((model.eval()(inputs)[:, -1, :16].argmax(-1) == labels).sum())
    return right / cases


@evidence(
    "landmark-attention",
    kind="claim",
    claim="Trained on 256 tokens it finds a pass key in 2,048 by two blocks at a time; a window as large does not (section 4.2).",
)
def landmark_pass_key() -> Finding:
    """Blocks of 16, two layers of width 64; a window of the own block and two more trained alike."""
    sizes = {"vocabulary": 49, "width": 64, "hidden": 128, "depth": 2, "heads": 4}
    figures: dict[str, dict[str, float]] = {}
    for name in ("landmarks", "window"):
        generator = torch.Generator().manual_seed(0)
        landmarks = name == "landmarks"
        more = {"block": 16} if landmarks else {"window": 48}
        design = find_system("landmark-attention" if landmarks else "llama").design("nano", **sizes, **more)
        model: Any = design.build(seed=0)
        _taught(model, 300, generator)
        if landmarks:
            for block in model.backbone.body.blocks:
                block.mixer.keep = 2
        figures[name] = {str(length): found(model, length, generator) for length in (256, 2048)}
    holds = figures["landmarks"]["2048"] > 0.9 and figures["window"]["2048"] < 0.2
    finding = ", ".join(
        f"{name} {each['256']:.2f} at 256 and {each['2048']:.2f} at 2,048" for name, each in figures.items()
    )
    return Finding(verdict(holds), f"{finding} (chance 0.06)", figures)
