"""Evidence for finding heads and what passes between them, in a model that must copy from what it has seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.inside import VOCABULARY, taught
from everyformer.interpret import ablate_heads, attention, channels, find_heads, heads_of, intervene, offset_score
from everyformer.mixers import Attention

_LENGTH = 32
_FIRST, _SECOND = "backbone.blocks.0.mixer", "backbone.blocks.1.mixer"


def repeats(generator: torch.Generator, count: int = 64) -> tuple[Tensor, Tensor]:
    """Random tokens that come again and again with a period of 4 to 12, of which the first ones are not asked for.

    What is to come stands at no fixed distance, so only a head that looks for what followed the same token finds it.
    """
    period = torch.randint(4, 13, (count, 1), generator=generator)
    place = torch.arange(_LENGTH)
    ids = torch.randint(0, VOCABULARY, (count, 12), generator=generator).gather(1, place % period)
    following = ids.roll(-1, 1).masked_fill(place < period, -100)
    following[:, -1] = -100
    return ids, following


@cache
def copier(depth: int = 2) -> nn.Module:
    """A decoder of so many layers that has learnt to go on with repeats."""
    return taught(repeats, 800, depth=depth, length=_LENGTH)


@cache
def _fresh() -> tuple[Tensor, Tensor]:
    return repeats(torch.Generator().manual_seed(9), 512)


def _loss(said: Tensor) -> Tensor:
    return F.cross_entropy(said.flatten(0, 1), _fresh()[1].flatten(), ignore_index=-100)


@torch.no_grad()
def _right(model: nn.Module) -> float:
    ids, labels = _fresh()
    return float((model(ids).argmax(-1) == labels)[labels != -100].float().mean())


@evidence(
    "transformer-lm-primer",
    kind="claim",
    claim="Two layers form induction heads, which the tools find and without which the model fails; one layer forms none "
    "(section 5.2).",
)
def induction_heads() -> Finding:
    """Scores on random tokens that come twice; the heads that pass 0.3 are taken out together."""
    ids = torch.randint(0, VOCABULARY, (64, 14), generator=torch.Generator().manual_seed(3))
    scores = {f"{depth} layers": find_heads(copier(depth), ids) for depth in (1, 2)}
    best = {
        name: max(float(figures["induction"].max()) for figures in found.values()) for name, found in scores.items()
    }
    heads = (scores["2 layers"][_SECOND]["induction"] > 0.3).nonzero()[:, 0].tolist()
    accuracy = {"1 layer": _right(copier(1)), "2 layers": _right(copier())}
    with _silent(copier(), _SECOND, heads):
        accuracy["2 layers without them"] = _right(copier())
    holds = best["2 layers"] > 0.3 > 2 * best["1 layers"] and accuracy["2 layers"] > 0.9
    holds = holds and accuracy["2 layers without them"] < 0.3
    finding = (
        f"best induction score {best['2 layers']:.2f} with two layers, {best['1 layers']:.2f} with one; right in "
        f"{accuracy['2 layers']:.1%}, without the {len(heads)} heads found in {accuracy['2 layers without them']:.1%}"
    )
    return Finding(verdict(holds), finding, {"scores": best, "right": accuracy})


@contextmanager
def _silent(model: nn.Module, path: str, heads: list[int]) -> Iterator[None]:
    """Some heads answer with zeros."""
    kept = torch.ones(model.get_submodule(path).heads)  # type: ignore[call-overload]
    kept[heads] = 0
    with intervene(model, {f"{path}.mixed": lambda mixed: mixed * kept[:, None, None]}):
        yield


@evidence("bertviz", kind="claim", claim="What the head view shows locates the heads that matter (section 3.1).")
@torch.no_grad()
def seen_heads_matter() -> Finding:
    """Copying needs the token before: of the first layer, the head most seen to attend there costs most when taken out."""
    model, (ids, _) = copier(), _fresh()
    shown = offset_score(attention(model, layers=[0], inputs=ids)[f"{_FIRST}.weights"], -1)
    lost = ablate_heads(model, {"inputs": ids}, _loss)[_FIRST] - _loss(model(ids))
    held = int(shown.argmax()) == int(lost.argmax())
    finding = f"attention to the token before {_row(shown)} by head; loss without the head {_row(lost, signed=True)}"
    return Finding(verdict(held), finding, {"shown": shown.tolist(), "lost": lost.tolist()})


def _row(figures: Tensor, signed: bool = False) -> str:
    return ", ".join(f"{each:{'+' if signed else ''}.2f}" for each in figures.tolist())


@evidence(
    "talking-heads-channels",
    kind="claim",
    claim="Of a head's components those with the best composition scores carry what a later head reads (section 4).",
)
@torch.no_grad()
def channels_carry() -> Finding:
    """From each head of the first layer one component is taken out: that which the keys of the second layer's heads read
    best, and 20 times one drawn at random.
    """
    model = copier()
    writer = model.get_submodule(_FIRST)
    assert isinstance(writer, Attention)
    readers = heads_of(model.get_submodule(_SECOND))
    found = [[channels(head.ov, reader.qk.mT) for reader in readers] for head in heads_of(writer)]
    scores = [torch.stack([each.score for each in of_head]).amax(0) for of_head in found]
    directions = [of_head[0].right for of_head in found]
    best = _without(model, writer, [right[score.argmax()] for right, score in zip(directions, scores, strict=True)])
    generator = torch.Generator().manual_seed(0)
    drawn = [
        _without(
            model, writer, [right[torch.randint(len(right), (1,), generator=generator)[0]] for right in directions]
        )
        for _ in range(20)
    ]
    whole = float(_loss(model(_fresh()[0])))
    figures: dict[str, Any] = {"whole": whole, "best": best, "random": drawn}
    held = best > max(drawn)
    finding = (
        f"loss {whole:.3f}; without the best component of each head {best:.3f}, without random ones "
        f"{min(drawn):.3f} to {max(drawn):.3f}"
    )
    return Finding(verdict(held), finding, figures)


def _without(model: nn.Module, writer: Attention, directions: list[Tensor]) -> float:
    """The loss where each head writes nothing along its direction."""
    weight = writer.output.weight
    kept = weight.clone()
    for head, direction in zip(weight.unflatten(1, (writer.heads, -1)).unbind(1), directions, strict=True):
        head -= direction[:, None] * (direction @ head)
    loss = float(_loss(model(_fresh()[0])))
    weight.copy_(kept)
    return loss
