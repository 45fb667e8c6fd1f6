"""Evidence for what transformers learn from the examples in their prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict


def regression(
    batch: int,
    dimension: int,
    pairs: int,
    generator: torch.Generator,
    noise: float = 0.0,
    weights: Tensor | None = None,
    represent: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Prompts x_1, y_1, x_2, y_2, ... of a linear map each, (B, 2 n, d + 1), and the y (B, n).

    A vector has a zero where y stands, a number zeros where x stands (Akyürek et al., 2023, section 2.1). The map is drawn
    from the rows of `weights` where these are given, else from a normal distribution; it is one of what `represent` makes
    of x, where that is given.
    """
    x = torch.randn(batch, pairs, dimension, generator=generator)
    seen = x if represent is None else represent(x)
    if weights is None:
        w = torch.randn(batch, seen.shape[2], generator=generator)
    else:
        w = weights[torch.randint(len(weights), (batch,), generator=generator)]
    y = torch.einsum("bnd,bd->bn", seen, w) + noise * torch.randn(batch, pairs, generator=generator)
    rows = torch.zeros(batch, pairs, 2, dimension + 1)
    rows[:, :, 0, 1:], rows[:, :, 1, 0] = x, y
    return rows.flatten(1, 2), y


def in_context(
    model: nn.Module, draw: Callable[[torch.Generator], tuple[Tensor, Tensor]], steps: int, lr: float = 1e-3
) -> nn.Module:
    """Train a decoder to say each y at its x, by the squared error of all places."""
    generator = torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        inputs, y = draw(generator)
        return F.mse_loss(model(inputs)[:, ::2, 0], y)

    return descend(model, loss, steps, lr=lr, rate=warmed(100), clip=1.0)


def on_vectors(design: Any, dimension: int, pairs: int) -> Any:
    """A decoder of tokens as one of vectors, that answers with a number."""
    positions = ef.spec(ef.positions.Learned, length=2 * pairs)
    design = design.swap("embedding", ef.spec(ef.embeddings.TimeSteps, variates=dimension + 1, positions=positions))
    return design.swap("head", ef.spec(ef.heads.TokenHead, vocabulary=1, bias=True))


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """The maps (B, d) that ridge regression fits to examples x (B, n, d), y (B, n)."""
    gram = x.mT @ x + strength * torch.eye(x.shape[2])
    return torch.linalg.solve(gram, x.mT @ y[..., None])[..., 0]


def mixed(x: Tensor, y: Tensor, maps: Tensor, noise: float) -> Tensor:
    """The posterior mean (B, d) of the map, one of `maps` at equal chances (Pathak et al., 2023, section 2)."""
    squares = (y[..., None] - x @ maps.mT).square().sum(1)
    return (-squares / (2 * noise**2)).softmax(-1) @ maps


def nearest(x: Tensor, y: Tensor, asked: Tensor, count: int = 3) -> Tensor:
    """The mean y of the nearest examples."""
    found = torch.cdist(asked[:, None], x)[:, 0].topk(min(count, x.shape[1]), largest=False).indices
    return y.gather(1, found).mean(1)


_SIZE, _PAIRS = 3, 10
"""Dimensions, and pairs of x and y in a prompt."""


def _asked(count: int, pairs: int, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fresh prompts, and of them the examples x and y and the x that is asked for last."""
    inputs, y = regression(count, _SIZE, pairs, torch.Generator().manual_seed(1), **options)
    x = inputs[:, ::2, 1:]
    return inputs, x[:, :-1], y[:, :-1], x[:, -1]


@cache
def _decoder(noise: float, depth: int, turns: int = 1) -> nn.Module:
    """A decoder that has learnt regression in context: `depth` layers, or those in a loop."""
    design = ef.design(
        "algoformer", vocabulary=2, width=64, heads=4, pre=0, post=0, loop=depth, turns=turns, injected=turns > 1
    )
    model: nn.Module = on_vectors(design, _SIZE, _PAIRS).build(seed=0)
    return in_context(model, lambda generator: regression(64, _SIZE, _PAIRS, generator, noise), 2500)


@evidence(
    "icl-linear-models",
    kind="claim",
    claim="What a decoder, looped or not, says is nearest to ridge regression of the strength that the noise asks for, and further "
    "from a step of gradient descent and from nearest neighbours (sections 4.2 and 4.3).",
)
@torch.no_grad()
def nearest_to_ridge() -> Finding:
    """Maps of 3 dimensions, 9 examples, noise of variance 0.25; three layers, or one in a loop of six turns."""
    noise = 0.5
    figures: dict[str, Any] = {}
    inputs, x, y, asked = _asked(2000, _PAIRS, noise=noise)
    ways = {
        f"ridge {strength:g}": (ridge(x, y, strength) * asked).sum(-1) for strength in (0.0, 0.05, 0.25, 1.25, 6.25)
    }
    moment = torch.einsum("bnd,bn->bd", x, y)
    step = (moment * asked).sum(-1)
    ways |= {
        "one step": step * (step * ways["ridge 0.25"]).mean() / step.square().mean(),
        "3 neighbours": nearest(x, y, asked),
    }
    for name, (depth, turns) in {"layers": (3, 1), "looped": (1, 6)}.items():
        said = _decoder(noise, depth, turns)(inputs)[:, -2, 0]
        figures[name] = {way: float((said - other).square().mean()) for way, other in ways.items()}
    best = {name: min(each, key=each.__getitem__) for name, each in figures.items()}
    holds = set(best.values()) == {"ridge 0.25"}
    finding = "; ".join(
        f"{name}: nearest {best[name]}, " + ", ".join(f"{way} {gap:.3f}" for way, gap in each.items())
        for name, each in figures.items()
    )
    return Finding(verdict(holds), f"mean squared differences: {finding}", figures)


@evidence(
    "regression-mixture",
    kind="claim",
    claim="Of maps drawn from a few, a decoder learns the posterior mean: at 4 examples its error is below least squares' and at "
    "most twice the best possible, and the map that it goes by is nearer to the posterior's (section 4).",
)
@torch.no_grad()
def mixture_is_learnt() -> Finding:
    """Five maps of 3 dimensions, noise 0.5; the map that it goes by is fitted to its answers at 30 x for each prompt."""
    noise, pairs, probes = 0.5, 5, 30
    maps = torch.randn(5, _SIZE, generator=torch.Generator().manual_seed(7))
    design = ef.design("algoformer", vocabulary=2, width=64, heads=4, pre=0, post=0, loop=3, turns=1)
    model: nn.Module = on_vectors(design, _SIZE, _PAIRS).build(seed=0)
    in_context(model, lambda generator: regression(64, _SIZE, _PAIRS, generator, noise, maps), 2500)
    inputs, x, y, asked = _asked(500, pairs, noise=noise, weights=maps)
    truth = regression(500, _SIZE, pairs, torch.Generator().manual_seed(1), noise=0.0, weights=maps)[1][:, -1]
    ways = {"posterior": mixed(x, y, maps, noise), "least squares": ridge(x, y, 1e-6)}
    said = model(inputs)[:, -2, 0]
    errors = {"decoder": said} | {name: (w * asked).sum(-1) for name, w in ways.items()}
    figures: dict[str, Any] = {"errors": {name: float((each - truth).square().mean()) for name, each in errors.items()}}
    many = inputs.repeat_interleave(probes, 0)
    fresh = torch.randn(len(many), _SIZE, generator=torch.Generator().manual_seed(2))
    many[:, -2, 1:] = fresh
    answers = model(many)[:, -2, 0].unflatten(0, (-1, probes))
    implied = ridge(fresh.unflatten(0, (-1, probes)), answers, 1e-6)
    figures["distances"] = {name: float((implied - w).square().sum(-1).mean()) for name, w in ways.items()}
    error, gap = figures["errors"], figures["distances"]
    holds = (
        error["decoder"] < min(error["least squares"], 2 * error["posterior"])
        and gap["posterior"] < gap["least squares"]
    )
    finding = (
        "squared error at 4 examples " + ", ".join(f"{name} {each:.3f}" for name, each in error.items())
        + f"; the map that it goes by lies {gap['posterior']:.3f} from the posterior mean, {gap['least squares']:.3f} from least squares"
    )  # fmt: skip
    return Finding(verdict(holds), finding, figures)


@evidence(
    "icl-representations",
    kind="claim",
    claim="Where y is a linear map of a fixed representation of x, a decoder comes near ridge regression on the representation, "
    "below ridge on x; the representation is read off its lower layers best, better than off what goes in (section 4).",
)
@torch.no_grad()
def represents_then_regresses() -> Finding:
    """x of 4 numbers through leaky_relu(W x) to 6, noise 0.1, 12 pairs; 4 layers. Probes are linear, at the tokens of x."""
    size, hidden, pairs, noise = 4, 6, 12, 0.1
    weight = torch.randn(hidden, size, generator=torch.Generator().manual_seed(5))

    def represent(x: Tensor) -> Tensor:
        return F.leaky_relu(x @ weight.mT, 0.01)

    design = ef.design("algoformer", vocabulary=2, width=64, heads=4, pre=0, post=0, loop=4, turns=1)
    model: nn.Module = on_vectors(design, size, pairs).build(seed=0)
    in_context(model, lambda drawn: regression(64, size, pairs, drawn, noise, represent=represent), 2500)
    inputs, y = regression(2000, size, pairs, torch.Generator().manual_seed(1), noise, represent=represent)
    x = inputs[:, ::2, 1:]
    with ef.interpret.record(model, "embedding", "backbone.**.residual.1") as seen:
        said = model(inputs)[:, -2, 0]
    ways = {"representation": represent(x), "x": x}
    errors = {"decoder": float((said - y[:, -1]).square().mean())}
    for name, each in ways.items():
        found = ridge(each[:, :-1], y[:, :-1], noise**2 if name == "representation" else 1.0)
        errors[f"ridge on the {name}"] = float(((found * each[:, -1]).sum(-1) - y[:, -1]).square().mean())
    states = [values[:, ::2] for path in seen for values in seen.calls(path)]
    left = [_unexplained(values, ways["representation"]) for values in states]
    best = min(range(len(left)), key=left.__getitem__)
    near = errors["decoder"] - errors["ridge on the representation"] < 0.5 * (
        errors["ridge on the x"] - errors["ridge on the representation"]
    )
    finding = (
        ", ".join(f"{name} {each:.3f}" for name, each in errors.items())
        + "; of the representation a linear probe leaves unexplained "
        + ", ".join(f"{each:.3f}" for each in left)
        + " at the embedding and after each layer"
    )
    holds = near and 0 < best < len(left) - 1 and left[best] < 0.5 * left[0]
    return Finding(verdict(holds), finding, {"errors": errors, "unexplained": left})


def _unexplained(values: Tensor, wanted: Tensor) -> float:
    """The share of the variance that a linear map of the values leaves, on sequences that it was not fitted to."""
    half = len(values) // 2
    known = F.pad(values, (0, 1), value=1.0).double()
    fitted = torch.linalg.lstsq(known[:half].flatten(0, 1), wanted[:half].double().flatten(0, 1)).solution
    rest = wanted[half:].double().flatten(0, 1)
    return float((known[half:].flatten(0, 1) @ fitted - rest).square().sum() / (rest - rest.mean(0)).square().sum())
