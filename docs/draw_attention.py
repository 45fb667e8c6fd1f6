"""Draws the pictures of attention.md: `python docs/draw_attention.py` (needs matplotlib and scikit-learn)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from attention_by_hand import convolution
from torch import Tensor

import everyformer as ef
from everyformer.heads import ClassHead, Mean
from everyformer.masks import Block, Causal, Full, Mask, Window, prefix_lm
from everyformer.mixers.attend import Lowered, attend
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm, PreNorm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent / "pictures"
INK = {"single": "#b5462f", "several": "#2f6fb5"}


def save(figure: plt.Figure, name: str) -> None:
    """Write one picture, small enough for a page."""
    HERE.mkdir(exist_ok=True)
    figure.savefig(HERE / f"{name}.png", dpi=80, bbox_inches="tight")
    plt.close(figure)


def bare(axis: plt.Axes, picture: Tensor, title: str, **options: object) -> None:
    """A matrix without ticks."""
    axis.imshow(picture.detach().numpy(), **{"cmap": "Blues", **options})  # type: ignore[arg-type]
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=9)


def temperature() -> None:
    """The same scores at five temperatures."""
    torch.manual_seed(1)
    scores = torch.randn(8, 8)
    figure, axes = plt.subplots(1, 5, figsize=(9, 2.2))
    for axis, beta in zip(axes, (0, 0.5, 1, 4, 10_000)):
        bare(axis, (beta * scores).softmax(-1), f"beta = {beta:g}", vmin=0, vmax=1)
    axes[0].set_ylabel("query")
    axes[2].set_xlabel("key")
    save(figure, "attention-temperature")


def shares(queries: Tensor, spread: float = 0.5, runs: int = 4000) -> np.ndarray:
    """How much of a's value comes out when the norm of key a varies, with one query or the mean of several."""
    keys = torch.eye(8).repeat(runs, 1, 1)
    keys[:, 0] *= 1 + spread * torch.randn(runs, 1, generator=torch.Generator().manual_seed(0))
    query = queries.expand(runs, -1, -1)[:, None]
    mixed = attend(query, keys[:, None], torch.eye(8).expand(runs, 1, 8, 8), lowered=Lowered(), scale=10.0)
    return mixed[:, 0].mean(1)[:, 0].numpy()


def sensitivity() -> None:
    """One head flips between two values, two heads hold still."""
    figure, axis = plt.subplots(figsize=(5, 2.6))
    a, b = torch.eye(8)[:2]
    for name, label, queries in (
        ("single", "one head, q between both keys", (a + b)[None]),
        ("several", "two heads, a key each", torch.stack((a, b))),
    ):
        axis.hist(shares(queries), bins=40, range=(0, 1), alpha=0.75, color=INK[name], label=label)
    axis.set_xlabel("share of the value of key a, whose norm varies by half")
    axis.set_ylabel("runs of 4,000")
    axis.legend(frameon=False, fontsize=8)
    save(figure, "attention-sensitivity")


def by_hand() -> None:
    """Nine heads that look in nine directions, and the edges that they find together."""
    from sklearn.datasets import load_digits

    digit = torch.tensor(load_digits().images[0], dtype=torch.float32)[None, None] / 16
    kernel = torch.tensor([[-1.0, -1, -1], [-1, 8, -1], [-1, -1, -1]])[None, None]
    bordered = F.pad(digit, (1, 1, 1, 1))
    mixer = convolution(kernel, row=10)
    seen: list[Tensor] = []
    mixer.weights.register_forward_hook(lambda _, __, weights: seen.append(weights[0]))
    found = mixer(ef.Tokens(bordered.flatten(2).mT)).mT.unflatten(-1, (10, 10))[..., 1:-1, 1:-1]
    figure = plt.figure(figsize=(9, 2.6))
    grid = figure.add_gridspec(3, 12, wspace=0.25)
    middle = 5 * 10 + 5
    for m in range(9):
        axis = figure.add_subplot(grid[m // 3, m % 3])
        bare(axis, seen[0][m, middle].unflatten(-1, (10, 10)), "")
    figure.text(0.22, 0.93, "nine heads, seen from one token", ha="center", fontsize=9)
    pictures = (digit, "digit"), (found, "through attention"), (F.conv2d(digit, kernel, padding=1), "through conv2d")
    for i, (picture, title) in enumerate(pictures):
        axis = figure.add_subplot(grid[:, 3 + 3 * i : 6 + 3 * i])
        bare(
            axis,
            picture[0, 0],
            title,
            cmap="Greys" if i == 0 else "RdBu_r",
            **({} if i == 0 else {"vmin": -6, "vmax": 6}),
        )
    save(figure, "attention-convolution")


def influence(mask: Mask, depth: int, length: int = 16) -> Tensor:
    """Which output depends on which input, after `depth` layers."""
    torch.manual_seed(0)
    block = ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=2))
    body = ef.spec(ef.backbones.Encoder, blocks=(block,) * depth, mask=mask).build(8).double()
    x = torch.randn(1, length, 8).double().requires_grad_()
    out = body(ef.Tokens(x)).values[0]
    rows = [torch.autograd.grad(o.square().sum(), x, retain_graph=True)[0][0].norm(dim=-1) for o in out]
    return (torch.stack(rows) > 0).float()


def masks() -> None:
    """The masks, and what may reach what through three layers of them."""
    shown = {
        "Full()": Full(), "Causal()": Causal(), "Causal(ahead=2)": Causal(ahead=2), "Window(3)": Window(3),
        "Block(4, back=1)": Block(4, 1), "prefix_lm(6)": prefix_lm(6),
    }  # fmt: skip
    figure, axes = plt.subplots(2, len(shown), figsize=(10, 3.8))
    places = torch.arange(16)
    for (above, below), (title, mask) in zip(axes.T, shown.items()):
        bare(above, mask.allows(places[:, None], places[None]).float(), title, vmin=0, vmax=1.4)
        bare(below, influence(mask, 3), "", vmin=0, vmax=1.4, cmap="Oranges")
    axes[0, 0].set_ylabel("one layer")
    axes[1, 0].set_ylabel("three layers")
    save(figure, "attention-masks")


def deep(residual: type, depth: int = 24) -> Model:
    """A classifier with weights normal with sqrt(2 / inputs)."""
    mixer = ef.spec(ef.mixers.Attention, heads=2)
    mlp = ef.spec(ef.feedforward.MLP, hidden=32, activation="relu")
    block = ef.spec(ef.backbones.Block, mixer=mixer, feedforward=mlp, residual=ef.spec(residual))
    model = Model(
        width=16,
        embedding=ef.spec(ef.embeddings.Text, vocabulary=10, positions=ef.spec(ef.positions.Sinusoidal), scaled=True),
        backbone=ef.spec(
            ef.backbones.Encoder, blocks=(block,) * depth, norm=ef.spec(LayerNorm) if residual is PreNorm else None
        ),
        head=ef.spec(ClassHead, classes=10, pool=ef.spec(Mean)),
        start=ef.spec(Xavier),
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=(2 / module.in_features) ** 0.5)
    return model


def norms() -> None:
    """The gradient of each of 24 layers at the start, ten models of each kind."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
    words = torch.randint(0, 10, (64, 8), generator=torch.Generator().manual_seed(0))
    for axis, residual, title in zip(axes, (PreNorm, PostNorm), ("x + f(norm(x))", "norm(x + f(x))")):
        torch.manual_seed(0)
        for _ in range(10):
            model = deep(residual)
            F.cross_entropy(model(words), words[:, 0]).backward()
            blocks = model.backbone.blocks
            sizes = [torch.stack([p.grad.norm() for p in block.parameters()]).norm().item() for block in blocks]
            axis.semilogy(range(1, 25), sizes, color=INK["several" if residual is PreNorm else "single"], alpha=0.5)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("layer")
    axes[0].set_ylabel("gradient norm")
    save(figure, "attention-norms")


if __name__ == "__main__":
    for draw in (temperature, sensitivity, by_hand, masks, norms):
        draw()
