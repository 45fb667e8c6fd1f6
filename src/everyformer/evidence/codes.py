"""Evidence for hidden states that are codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.inside import taught, tuned
from everyformer.interpret import Coded, codebooks, intervene, record

_STATES, _AFTER, _LENGTH, _CODES = 100, 3, 32, 300


@cache
def _machine() -> Tensor:
    """The states (100, 3) that can follow each state."""
    return torch.rand(_STATES, _STATES, generator=torch.Generator().manual_seed(0)).argsort(1)[:, :_AFTER]


def _walks(generator: torch.Generator, count: int = 64) -> tuple[Tensor, Tensor]:
    """States of the machine one after the other, two digits each, and the digit that follows each digit."""
    states = [torch.randint(0, _STATES, (count,), generator=generator)]
    while len(states) < _LENGTH // 2:
        states.append(_machine()[states[-1], torch.randint(0, _AFTER, (count,), generator=generator)])
    along = torch.stack(states, 1)
    ids = torch.stack((along // 10, along % 10), -1).flatten(1)
    following = ids.roll(-1, 1)
    following[:, -1] = -100
    return ids, following


def _legal(said: Tensor, states: Tensor) -> float:
    """The share of the first digits of states that may follow, in what is said of the next digit."""
    can = torch.zeros(_STATES, said.shape[-1]).scatter(1, _machine() // 10, 1.0)
    return float((said.softmax(-1) * can[states]).sum(-1).mean())


@torch.no_grad()
def _of_states(model: nn.Module, made: dict[str, Coded]) -> tuple[dict[str, Tensor], float]:
    """For each codebook the code (G, 100) that is chosen most at each state's last digit, and how often that is its state."""
    ids, _ = _walks(torch.Generator().manual_seed(5), 2000)
    states = (10 * ids[:, ::2] + ids[:, 1::2]).flatten()
    with record(model, *(f"{path}.chosen" for path in made)) as seen:
        model(ids)
    best, precise = {}, 0.0
    for path, coded in made.items():
        chosen = seen[f"{path}.chosen"][:, 1::2, :, 0].flatten(0, 1)
        counts = torch.zeros(coded.groups, _CODES, _STATES)
        for group in range(coded.groups):
            counts[group].index_put_((chosen[:, group], states), torch.ones(len(states)), accumulate=True)
        best[path] = counts.argmax(1)
        precise = max(precise, *(float(each.max(0).values.sum() / each.sum()) for each in counts))
    return best, precise


@evidence(
    "codebook-features",
    kind="claim",
    claim="A decoder with codebooks everywhere is nearly as good, and where the codes of another state are switched on it goes on "
    "from that state (section 4.1).",
)
def codes_are_states() -> Finding:
    """A machine of 100 states, 3 of which may follow each; 1,000 steps without codebooks, 1,000 with one code of 300 each."""
    model = taught(_walks, 1000, depth=2, length=_LENGTH)
    ids, _ = _walks(torch.Generator().manual_seed(9), 1000)
    ends = 10 * ids[:, -2] + ids[:, -1]
    with torch.no_grad():
        figures = {"plain": _legal(model(ids)[:, -1], ends)}
    made = codebooks(model, {"inputs": ids}, codes=_CODES)
    tuned(model, _walks, 1000)
    best, figures["precision of the best codebook"] = _of_states(model, made)
    goals = torch.randint(0, _STATES, (len(ids),), generator=torch.Generator().manual_seed(3))
    drawn = torch.randint(0, _CODES, (len(ids),), generator=torch.Generator().manual_seed(4))

    def forced(codes: Callable[[str], Tensor], goal: Tensor) -> float:
        def switch(path: str, chosen: Tensor) -> Tensor:
            return torch.cat((chosen[:, :-1], codes(path).expand(len(ids), chosen.shape[2])[:, None, :, None]), 1)

        with torch.no_grad(), intervene(model, {f"{path}.chosen": partial(switch, path) for path in made}):
            return _legal(model(ids)[:, -1], goal)

    with torch.no_grad():
        figures |= {"coded": _legal(model(ids)[:, -1], ends), "before": _legal(model(ids)[:, -1], goals)}
    figures["switched"] = forced(lambda path: best[path][:, goals].mT, goals)
    figures["random codes"] = forced(lambda path: drawn[:, None], goals)
    holds = figures["coded"] > 0.9 * figures["plain"] and figures["switched"] > 0.8
    finding = (
        f"chances of digits that may follow {figures['coded']:.2f}, without codebooks {figures['plain']:.2f}; of those that may "
        f"follow another state {figures['before']:.2f}, with its codes {figures['switched']:.2f}, with random ones "
        f"{figures['random codes']:.2f}; the best codebook tells the state in {figures['precision of the best codebook']:.0%}"
    )
    return Finding(verdict(holds), finding, figures)
