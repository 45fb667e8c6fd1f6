"""What parts cost: a model built from parts against the same model written by hand as one plain module.

    python -m benchmarks.abstraction [--repeats 41]

Both have the same weights and give the same outputs. Each repeat times one after the other, in turns who is first, in
processor time of one thread, so that what else runs on the machine counts little; the figure is the median of the ratios.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import everyformer as ef
from benchmarks.paired import in_turns, milliseconds, ratio, write

BAR = 1.03
WIDTH, DEPTH, HEADS, CLASSES, PATCH, IMAGE = 192, 12, 3, 10, 4, 32
VOCABULARY, LENGTH = 256, 128


class PlainBlock(nn.Module):
    """Pre-norm attention and MLP, as one writes them."""

    def __init__(self, width: int, heads: int, *, causal: bool, activation: str, eps: float) -> None:
        super().__init__()
        self.heads, self.causal, self.activation = heads, causal, activation
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, count, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate=self.activation))


class PlainViT(nn.Module):
    """A vision transformer in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.first = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, (IMAGE // PATCH) ** 2, WIDTH))
        self.blocks = nn.Sequential(
            *(PlainBlock(WIDTH, HEADS, causal=False, activation="none", eps=1e-6) for _ in range(DEPTH))
        )
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patch(pictures).flatten(2).transpose(1, 2) + self.positions
        x = torch.cat((self.first.expand(len(x), -1, -1), x), 1)
        return self.head(self.norm(self.blocks(x))[:, 0])


class PlainGPT(nn.Module):
    """A GPT-2 in one module, its head tied to its table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(
            *(PlainBlock(WIDTH, HEADS, causal=True, activation="tanh", eps=1e-5) for _ in range(DEPTH))
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return F.linear(self.norm(self.blocks(x)), self.table.weight)


def built(name: str) -> nn.Module:
    """The same model from parts."""
    if name == "vit":
        return ef.create("vit", size="tiny", image=IMAGE, patch=PATCH, classes=CLASSES, seed=0)
    return ef.create("gpt", vocabulary=VOCABULARY, length=LENGTH, width=WIDTH, depth=DEPTH, heads=HEADS, seed=0)


def copy_weights(parts: nn.Module, plain: nn.Module) -> None:
    """Give the plain model the weights of the one from parts."""
    own = parts.state_dict()
    if isinstance(plain, PlainViT):
        pairs = {"patch": "embedding.project", "head": "head.classify", "norm": "backbone.norm"}
        plain.first.data.copy_(own["embedding.first"])
        plain.positions.data.copy_(own["embedding.positions.table"])
    else:
        pairs = {"table": "embedding.table", "positions": "embedding.positions.table", "norm": "backbone.norm"}
    for i in range(DEPTH):
        block = f"backbone.blocks.{i}"
        pairs |= {f"blocks.{i}.{n}": f"{block}.mixer.{n}" for n in ("qkv", "output")}
        pairs |= {f"blocks.{i}.{n}": f"{block}.feedforward.{n}" for n in ("up", "down")}
        pairs |= {f"blocks.{i}.norm{j + 1}": f"{block}.residual.{j}.norm" for j in (0, 1)}
    for ours, theirs in pairs.items():
        module = plain.get_submodule(ours)
        for kind, parameter in module.named_parameters(recurse=False):
            parameter.data.copy_(own[f"{theirs}.{kind}"])


def step(model: nn.Module, batch: Tensor, labels: Tensor) -> Callable[[], None]:
    """One training step: forward, loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)

    def act() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch).flatten(0, -2), labels.flatten()).backward()
        optimizer.step()

    return act


def forward(model: nn.Module, batch: Tensor) -> Callable[[], None]:
    """One forward pass without gradients."""

    def act() -> None:
        with torch.no_grad():
            model(batch)

    return act


def compared(acts: tuple[Callable[[], None], Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median milliseconds of ours and of theirs, and of their ratio."""
    times = in_turns(dict(zip(("ours", "theirs"), acts, strict=True)), repeats)
    return {
        **{f"{name}_ms": each for name, each in milliseconds(times).items()},
        "ratio": ratio(times, "ours", "theirs"),
    }


def measure(name: str, batch_size: int, repeats: int) -> list[dict[str, object]]:
    """Forward and training step of one model at one batch size."""
    parts, plain = built(name), PlainViT() if name == "vit" else PlainGPT()
    copy_weights(parts, plain)
    torch.manual_seed(0)
    if name == "vit":
        batch, labels = torch.randn(batch_size, 3, IMAGE, IMAGE), torch.randint(CLASSES, (batch_size,))
    else:
        batch = torch.randint(VOCABULARY, (batch_size, LENGTH))
        labels = torch.randint(VOCABULARY, (batch_size, LENGTH))
    with torch.no_grad():
        gap = (parts(batch) - plain(batch)).abs().max().item()
    assert gap <= 1e-5, f"{name}: the two differ by {gap}"
    found: list[dict[str, object]] = []
    for kind, acts in {
        "forward": (forward(parts.eval(), batch), forward(plain.eval(), batch)),
        "training step": (step(parts.train(), batch, labels), step(plain.train(), batch, labels)),
    }.items():
        line = {"model": name, "batch": batch_size, "what": kind, **compared(acts, repeats), "gap": gap}
        print(line, flush=True)
        found.append(line)
    return found


def main() -> None:
    """Measure, print and write `benchmarks/abstraction.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=41)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    lines = [line for name in ("vit", "gpt") for batch in (1, 16) for line in measure(name, batch, repeats)]
    worst = max(line["ratio"] for line in lines if line["batch"] == 16)
    write(__file__, bar=BAR, worst_ratio_at_batch_16=worst, holds=worst <= BAR, repeats=repeats, lines=lines)
    print(f"worst ratio at batch 16: {worst} (bar {BAR})")


if __name__ == "__main__":
    main()
