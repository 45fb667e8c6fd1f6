"""Evidence for how attention moves while it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.mixers import CrossAttention
from everyformer.tokens import Tokens

_OWN, _COMMON, _QUERIES, _EACH = 10, 10, 2, 3
"""Tokens that stand with one next token alone and with all, queries, and next tokens of each."""
_NEXT = _QUERIES * _EACH
_FIRST_COMMON = _NEXT * _OWN
_FIRST_QUERY = _FIRST_COMMON + _COMMON
_TOKENS = _FIRST_QUERY + _QUERIES
_SHARES = torch.arange(1.0, _OWN + 1) / (_OWN * (_OWN + 1))
"""How often each of its own tokens stands with a next token: half of the places in all."""


def _contexts(generator: torch.Generator, count: int, length: int = 127) -> tuple[Tensor, Tensor, Tensor]:
    """Contexts (B, N), their last tokens (B, 1) and what comes next (B,)."""
    chances = torch.zeros(_NEXT, _TOKENS)
    chances[:, _FIRST_COMMON:_FIRST_QUERY] = 0.5 / _COMMON
    for n in range(_NEXT):
        chances[n, _OWN * n : _OWN * (n + 1)] = _SHARES
    following = torch.randint(0, _NEXT, (count,), generator=generator)
    seen = chances[following].multinomial(length, replacement=True, generator=generator)
    return seen, _FIRST_QUERY + following[:, None] // _EACH, following


def _ranks(values: Tensor) -> Tensor:
    return values.argsort(-1).argsort(-1).double()


@evidence(
    "scan-and-snap",
    kind="claim",
    claim="Attention that starts uniform grows on tokens that stand with one next token alone, the more the oftener they do, and "
    "falls on common ones; then its growth slows down, before one token takes all (theorems 2 to 4).",
)
def scans_then_snaps() -> Finding:
    """One layer without positions or residual, of which the scores and the decoder are learned by gradient descent from 0."""
    attention = CrossAttention(_TOKENS, heads=1, memory="context", bias=False, scale=1.0).requires_grad_(False)
    names = torch.eye(_TOKENS)
    attention.query.weight.zero_()
    attention.key_value.weight.copy_(torch.cat((names, names)))
    attention.output.weight.copy_(names)
    decoder = nn.Linear(_TOKENS, _NEXT, bias=False)
    nn.init.zeros_(decoder.weight)
    scores = attention.query.weight.requires_grad_()
    optimizer = torch.optim.SGD([{"params": [scores], "lr": 1.0}, {"params": decoder.parameters(), "lr": 10.0}])
    generator, steps = torch.Generator().manual_seed(0), 1200
    kept = {0: scores.detach().clone()}
    for step in range(1, steps + 1):
        seen, last, following = _contexts(generator, 64)
        context = Context(memory={"context": Tokens(names[seen])})
        mixed = F.normalize(attention(Tokens(names[last]), context)[:, 0], dim=-1)
        loss = F.cross_entropy(decoder(mixed), following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % (steps // 2) == 0:
            kept[step] = scores.detach().clone()
    start, half, end = (each[:, _FIRST_QUERY:].mT for each in kept.values())
    own = end[:, :_FIRST_COMMON].unflatten(1, (_NEXT, _OWN))
    own = torch.stack([own[n // _EACH, n] for n in range(_NEXT)])
    ranks = _ranks(own)
    order = float(torch.corrcoef(torch.stack((ranks.flatten(), _ranks(_SHARES).repeat(_NEXT))))[0, 1])
    growth = [float((b - a).abs().mean()) for a, b in ((start, half), (half, end))]
    weights = own.softmax(-1)
    figures = {
        "own": float(own.mean()), "common": float(end[:, _FIRST_COMMON:_FIRST_QUERY].mean()), "order": order,
        "growth": growth, "entropy": float(-(weights * weights.log()).sum(-1).mean()), "loss": float(loss.detach()),
    }  # fmt: skip
    holds = figures["own"] > 0 > figures["common"] and order > 0.9 and growth[1] < 0.5 * growth[0]
    holds = holds and figures["entropy"] > 0.5
    finding = (
        f"scores of own tokens {figures['own']:+.2f}, of common ones {figures['common']:+.2f}; rank correlation with how often "
        f"they stand there {order:.2f}; mean growth {growth[0]:.3f} in the first half, {growth[1]:.3f} in the second; entropy "
        f"among own tokens {figures['entropy']:.2f} of {torch.tensor(_OWN).log():.2f}"
    )
    return Finding(verdict(holds), finding, figures)
