"""Evidence for smaller caches and faster decoding: one small decoder of Shakespeare, trained at 256 characters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.cache import Cache, Policy
from everyformer.context import Context
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.long_decoders import shakespeare, streams
from everyformer.evidence.measures import next_token
from everyformer.evidence.runs import trained
from everyformer.generation import (
    H2O,
    KIVI,
    TOVA,
    Contrastive,
    Greedy,
    Jacobi,
    Keyformer,
    Lookahead,
    Sinks,
    SnapKV,
    generate,
    loss_of_stream,
    read_optimised,
    self_speculative,
    slim_attention,
)  # fmt: skip
from everyformer.interpret import find_sentences

LENGTH = 256
SAME = "share of greedy's tokens"


@cache
def decoder() -> nn.Module:
    """Rotary positions, 4 heads, 2 layers."""
    shape = ("design.system=llama", "design.size=nano", "design.width=64", "design.hidden=172", "design.depth=2")
    short = ("training.steps=500", "training.evaluate_every=500", "training.warmup=50", "training.batch=8")
    with trained("shakespeare", *shape, f"data.length={LENGTH}", *short) as run:
        return run.model


def held_out() -> Tensor:
    """Six pieces of the validation text, of the length of training."""
    return streams(shakespeare()["valid"], 64)[:6, : LENGTH + 1]


def token_by_token(policies: dict[str, Policy | None]) -> dict[str, float]:
    """Nats a character past the first 64, under each policy."""
    return {name: loss_of_stream(decoder(), held_out(), each, segment=1, skip=64) for name, each in policies.items()}


def finding(figures: dict[str, float], held: bool, unit: str = "nats a character") -> Finding:
    """The figures in a line."""
    said = ", ".join(f"{value:.4f} with {name}" for name, value in figures.items())
    return Finding(verdict(held), f"{unit}: {said}", figures)


def _against_window(policy: Callable[..., Policy]) -> Callable[[], Finding]:
    def run() -> Finding:
        figures = token_by_token(
            {
                "all": None,
                "a quarter": policy(keep=0.25),
                "64": policy(keep=64),
                "a window of 64": Sinks(sinks=0, window=64),
            }
        )
        return finding(figures, figures["64"] < figures["a window of 64"] and figures["64"] < 1.02 * figures["all"])

    return run


evidence(
    "tova",
    kind="claim",
    claim="With a quarter of the context in the cache it is nearly on par with all of it, and a window is worse (section 5.2).",
)(_against_window(TOVA))
evidence(
    "h2o",
    kind="claim",
    claim="With a fifth to a quarter of the cache little is lost, and the last tokens alone lose more (section 5.1).",
)(_against_window(H2O))


@evidence(
    "keyformer",
    kind="claim",
    claim="With half of the cache the loss stays, and noisy scores keep it no worse than plain ones do (section 4.1).",
)
def noisy_scores() -> Finding:
    """Half of the cache, a third of it for the last tokens, with noise and without."""
    half = {"keep": 0.5, "recent": 0.3}
    generator = torch.Generator().manual_seed(0)
    figures = token_by_token({"all": None, "noise": Keyformer(**half, generator=generator), "none": H2O(**half)})
    return finding(figures, figures["noise"] < 1.01 * min(figures["all"], figures["none"]))


@evidence(
    "snapkv",
    kind="claim",
    claim="What the end of a prompt attends to is what is needed after it; the last tokens alone lose more (section 5).",
)
def prompt_kept() -> Finding:
    """Prompts of 192 characters cut to 48 tokens, the loss of the 64 characters that follow."""
    figures = {
        name: after_prompt(policy)
        for name, policy in {
            "all": None,
            "48": SnapKV(keep=48, window=16),
            "the last 48": SnapKV(keep=48, window=48),
        }.items()
    }
    return finding(figures, figures["48"] < figures["the last 48"] and figures["48"] < 1.02 * figures["all"])


@torch.no_grad()
def after_prompt(policy: Policy | None, prompt: int = 192) -> float:
    """Nats a character after a prompt of which a policy keeps some."""
    ids, context = held_out(), Context(cache=Cache(policy))
    model: Any = decoder().eval()
    logits = [model.decode(ids[:, :prompt], context, last=True)]
    logits += [model.decode(each, context) for each in ids[:, prompt:-1].split(1, 1)]
    return F.cross_entropy(torch.cat(logits, 1).flatten(0, 1), ids[:, prompt:].flatten()).item()


@evidence(
    "kivi",
    kind="claim",
    claim="Keys by channel and values by token take 2 bits with almost no loss (tables 3 and 4).",
)
def few_bits() -> Finding:
    """Groups of 32, the last 32 tokens as they are: the loss after a prompt, and the bytes of the cache."""
    figures: dict[str, float] = {}
    for name, storage in {
        "all": None,
        **{f"{bits} bits": KIVI(bits=bits, group=16, residual=32) for bits in (8, 4, 2)},
    }.items():
        context = Context(cache=Cache(storage=storage))
        ids, model = held_out(), decoder().eval()
        logits = [model.decode(piece, context) for piece in ids[:, :-1].split([64] + [1] * (LENGTH - 64), 1)]
        figures[name] = F.cross_entropy(torch.cat(logits[1:], 1).flatten(0, 1), ids[:, 65:].flatten()).item()
        figures[f"{name}, kilobytes"] = context.cache.bytes / 1000  # type: ignore[union-attr]
    return finding(figures, figures["2 bits"] < 1.02 * figures["all"])


@evidence(
    "slim-attention",
    kind="claim",
    claim="Half the context memory without loss of accuracy, and no slower (abstract).",
)
def slim() -> Finding:
    """The loss of the trained decoder and of its rewritten copy; milliseconds a token and numbers held after 2,048."""
    plain, slimmer = decoder(), slim_attention(decoder())
    figures = {
        name: loss_of_stream(model, held_out(), None, segment=LENGTH)
        for name, model in (("plain", plain), ("slim", slimmer))
    }
    for name, model in (("plain", plain), ("slim", slimmer)):
        figures |= {f"{name}, {what}": value for what, value in next_token(model, 2048).items()}
    same = abs(figures["slim"] - figures["plain"]) < 1e-4
    faster = figures["slim, milliseconds"] < 1.1 * figures["plain, milliseconds"]
    return finding(figures, same and faster)


def continued(strategy: Any, tokens: int = 128) -> list[list[int]]:
    """What the decoder says after the first 64 characters of each piece."""
    return generate(decoder(), held_out()[:, :64], eos=None, pad=0, max_tokens=tokens, strategy=strategy)


@evidence(
    "contrastive-search",
    kind="claim",
    claim="It repeats itself less than greedy decoding, and stays near what the model finds probable (section 5).",
)
def repetition() -> Finding:
    """The share of the 8-grams of a continuation that stood in it before."""
    figures = {}
    for name, strategy in {"greedy": Greedy(), "contrastive search": Contrastive(top_k=4, penalty=0.6)}.items():
        rows = [[tuple(row[i : i + 8]) for i in range(len(row) - 7)] for row in continued(strategy)]
        figures[name] = sum(1 - len(set(row)) / len(row) for row in rows) / len(rows)
    return finding(figures, figures["contrastive search"] < figures["greedy"], "share of repeated 8-grams")


def passes(strategies: dict[str, Any], watched: dict[str, nn.Module] | None = None) -> dict[str, float]:
    """Passes of the decoder for 128 tokens after each of six prompts, and of what else is watched, by strategy.

    And the share of all continuations that are greedy's.
    """
    wanted, figures, model, same = continued(Greedy()), {"greedy": 128.0}, decoder(), 0
    for name, strategy in strategies.items():
        counts = {name: 0} | {f"{name}, {each}": 0 for each in watched or {}}

        def add(which: str, counts: dict[str, int]) -> Callable[..., None]:
            return lambda *_: counts.update({which: counts[which] + 1})

        bodies = [model, *(watched or {}).values()]
        handles = [
            body.backbone.register_forward_pre_hook(add(which, counts))  # type: ignore[union-attr]
            for which, body in zip(counts, bodies, strict=True)
        ]
        said = [
            generate(model, row[None], eos=None, pad=0, max_tokens=128, strategy=strategy)[0]
            for row in held_out()[:, :64]
        ]
        for handle in handles:
            handle.remove()
        figures |= {which: count / len(said) for which, count in counts.items()}
        same += sum(a == b for a, b in zip(said, wanted, strict=True))
    return {**figures, SAME: same / len(strategies) / len(wanted)}


def fewer(figures: dict[str, float], most: float, *names: str) -> Finding:
    """Whether the tokens are greedy's and one of the strategies of these names takes at most `most` passes."""
    return finding(figures, figures[SAME] == 1 and min(figures[name] for name in names) <= most, "passes")


@evidence(
    "parallel-jacobi-decoding",
    kind="claim",
    claim="Exactly the greedy tokens, in up to 38 % less time (abstract), one sequence at a time.",
)
def in_blocks() -> Finding:
    """Passes for 128 tokens after each of six prompts, in blocks of 3, 5 and 8, beside the 128 of greedy decoding."""
    figures = passes({f"blocks of {block}": Jacobi(block=block) for block in (3, 5, 8)})
    return fewer(figures, 128 / 1.2, *(f"blocks of {block}" for block in (3, 5, 8)))


@evidence(
    "lookahead-decoding",
    kind="claim",
    claim="Exactly the greedy tokens, in 1.5 to 2.3 times fewer steps (section 5), one sequence at a time.",
)
def from_pools() -> Finding:
    """Passes for 128 tokens with windows of 8 and 16 and runs of 4, beside Jacobi's in blocks of 8."""
    figures = passes({"Jacobi": Jacobi(block=8), **{f"windows of {w}": Lookahead(window=w, size=4) for w in (8, 16)}})
    return fewer(figures, 128 / 1.5, "windows of 8", "windows of 16")


@evidence(
    "self-speculative-decoding",
    kind="claim",
    claim="A model's own layers draft for it: greedy's tokens, in up to 1.99 times less time (abstract).",
)
def own_draft() -> Finding:
    """The first of two blocks as the draft, not trained for it: passes of all blocks and of the draft, in blocks."""
    strategy = self_speculative(decoder(), keep=1, ahead=2)  # type: ignore[arg-type]
    figures = passes({"drafted": strategy}, {"of the draft": strategy.draft})
    figures |= {"greedy, blocks": 256.0, "drafted, blocks": 2 * figures["drafted"] + figures["drafted, of the draft"]}
    return fewer(figures, figures["greedy, blocks"], "drafted, blocks")


@evidence(
    "sentence-representation-injection",
    kind="claim",
    claim="There is a vector for almost every sentence that makes a frozen model say it, and a narrow one does less (4.2).",
)
def said_by_vectors() -> Finding:
    """Twenty held-out pieces of 16 characters, a vector as wide as the model for each and one of 4 numbers: exact matches."""
    ids = streams(shakespeare()["valid"], 64)[:20, :16]
    figures = {}
    for name, width in {"64 numbers": None, "4 numbers": 4}.items():
        found = find_sentences(decoder(), ids, start=0, width=width, steps=300)  # type: ignore[arg-type]
        said = found.say(decoder(), ids.shape[1])  # type: ignore[arg-type]
        figures[name] = sum(a == b for a, b in zip(said, ids.tolist(), strict=True)) / len(ids)
    held = figures["64 numbers"] > 0.9 and figures["4 numbers"] < figures["64 numbers"]
    return finding(figures, held, "share of sentences said exactly")


@evidence(
    "pretrained-transformer-methods-thesis",
    kind="claim",
    claim="A gradient step on the hidden states that are held makes the predictions of what follows better, with no weight changed.",
)
def held_states_move() -> Finding:
    """Nats a character past the first 64, in pieces of 16: the size of the step is chosen on the last six of twelve pieces."""
    ids = streams(shakespeare()["valid"], 64)[:12, : LENGTH + 1]

    def nats(part: Tensor, lr: float) -> float:
        return read_optimised(decoder(), part, chunk=16, lr=lr).losses[:, 64:].mean().item()  # type: ignore[arg-type]

    best = min((1e-3, 3e-3, 1e-2, 3e-2), key=lambda lr: nats(ids[6:], lr))
    figures = {"states as they were": nats(ids[:6], 0.0), f"steps of {best}": nats(ids[:6], best)}
    return finding(figures, figures[f"steps of {best}"] < figures["states as they were"])
