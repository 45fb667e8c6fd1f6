"""Evidence for what is added to trained models of Shakespeare: a vector of the windows before, targets filled in at once, and
searches for texts with a property (Yoshida, 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import everyformer as ef
from everyformer.evidence.caches import decoder, finding, held_out
from everyformer.evidence.chunks import line_ends, texts
from everyformer.evidence.decoders import shakespeare
from everyformer.evidence.descent import descend, learn, warmed
from everyformer.evidence.harness import Finding, evidence
from everyformer.generation import Beam, Conditional, Power, Sample, condition, generate, mask_predict
from everyformer.models import parallel_seq2seq, window_recurrence
from everyformer.objectives import MaskedTarget, MaskedToken, Objective

WINDOW, STEPS = 32, 150


@evidence(
    "pretrained-transformer-methods-thesis",
    kind="claim",
    claim="A trained decoder that reads short windows predicts better with a vector of the windows before than without.",
)
def windows_before() -> Finding:
    """Windows of 32 characters, 150 steps of tuning either way on pieces of 256, and the decoder as it was."""

    def nats(model: Any, ids: Tensor) -> Tensor:
        return F.cross_entropy(model(ids[:, :-1])[:, WINDOW:].flatten(0, 1), ids[:, WINDOW + 1 :].flatten())

    def tuned(made: Any) -> Any:
        batches = texts()[0]
        return descend(made, lambda step: nats(made, batches[step % len(batches)]), STEPS, lr=1e-3, rate=warmed(30))

    figures = {}
    for name, options in {"a vector": {}, "none": {"recurrence": None}}.items():
        made = tuned(window_recurrence(decoder(), window=WINDOW, seed=0, **options))  # type: ignore[arg-type]
        with torch.no_grad():
            figures[name] = nats(made, held_out()).item()
    return finding(figures, figures["a vector"] < figures["none"])


_LENGTH = 24
_VOWELS = "aeiouAEIOU"


def pieces(split: str, step: int, count: int = 32) -> Tensor:
    """Pieces of the text, drawn by the step."""
    ids = shakespeare().parts[split]
    starts = torch.randint(len(ids) - _LENGTH, (count,), generator=torch.Generator().manual_seed(step))
    return ids[starts[:, None] + torch.arange(_LENGTH)]


def _learnt(model: Any, objective: Objective, batch: Callable[[int], dict[str, Tensor]], steps: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return learn(model, objective, batch, steps, lr=2e-3, rate=warmed(40), weight_decay=0.01)


@evidence(
    "pretrained-transformer-methods-thesis",
    kind="claim",
    claim="A parallel encoder-decoder that begins as a masked language model fills in more of its targets rightly than one that "
    "begins at random.",
)
def begun_masked() -> Finding:
    """Pieces of 24 characters from themselves without vowels, 400 steps; the masked model is trained for 600 steps before.

    Scored on the share of the characters that stand where they should, in 4 passes, the length given.
    """
    known = shakespeare().vocabulary.pieces()
    hidden = len(known)
    vowels = torch.tensor([each in _VOWELS for each in known])

    def masked(step: int) -> dict[str, Tensor]:
        ids = pieces("train", step)
        out = torch.rand(ids.shape, generator=torch.Generator().manual_seed(step)) < 0.3
        return {"inputs": ids.masked_fill(out, hidden), "labels": ids.masked_fill(~out, -100)}

    def voiceless(ids: Tensor) -> dict[str, Tensor]:
        rows = [row[~vowels[row]] for row in ids]
        inputs = torch.nn.utils.rnn.pad_sequence(rows, True, hidden)
        return {"inputs": inputs, "mask": inputs != hidden, "labels": ids}

    shape = {"vocabulary": hidden + 1, "length": 32, "width": 64, "depth": 2, "heads": 4, "segments": 0, "dropout": 0.0}
    figures = {}
    for name, before in {"masked language model": 600, "at random": 0}.items():
        begun = ef.create("bert", **shape, attention_dropout=0.0, seed=0)
        begun = _learnt(begun, MaskedToken(), masked, before) if before else begun
        made = parallel_seq2seq(begun, longest=_LENGTH, seed=0)
        _learnt(made, MaskedTarget(hidden=hidden), lambda step: voiceless(pieces("train", step)), 400)
        ids = pieces("valid", 0, 256)
        given = voiceless(ids)
        counts = torch.full((len(ids), 1), _LENGTH)
        said = mask_predict(made, given["inputs"], mask=given["mask"], hidden=hidden, steps=4, counts=counts)
        figures[name] = (torch.tensor(said) == ids).float().mean().item()
    return finding(figures, figures["masked language model"] > figures["at random"], "share of characters told right")


def _line_starts(ids: Tensor, count: int, length: int = 64) -> Tensor:
    """Pieces that end with a line, evenly spaced."""
    ends = (line_ends(ids).nonzero()[:, 0] + 1).tolist()
    ends = [end for end in ends if end >= length]
    return torch.stack([ids[end - length : end] for end in ends[:: len(ends) // count][:count]])


@evidence(
    "pretrained-transformer-methods-thesis",
    kind="claim",
    claim="What a beam finds likeliest is degenerate, and given that it is not, it finds texts that are likelier than samples.",
)
def lines_that_are_not_empty() -> Finding:
    """The next line, of 20 characters or more, after 16 held-out pieces that end with one: a beam of 8, and the same given that.

    The likelihoods are the mean nats of the lines that have the property, the end counted; samples: 8 after each piece.
    """
    model: Any = decoder()
    end = texts()[1]
    options: dict[str, Any] = {"eos": end, "max_tokens": 48}

    def holds(line: Any) -> bool:
        return len(line) >= 20

    def nats(prompts: Tensor, lines: list[list[int]]) -> float:
        found = []
        with torch.no_grad():
            for prompt, line in zip(prompts, lines, strict=True):
                if holds(line):
                    ids = torch.cat((prompt, torch.tensor([*line, end][:48])))[None]
                    logits = model(ids[:, :-1])[0, len(prompt) - 1 :]
                    found.append(float(F.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")))
        return sum(found) / max(len(found), 1)

    parts = shakespeare().parts
    chance = condition(model, _line_starts(parts["train"], 64), holds, **options, samples=8, steps=200)
    prompts = _line_starts(parts["valid"], 16)
    beam = ef.spec(Beam, size=8, penalty=ef.spec(Power, exponent=0.0), early=False)
    many = prompts.repeat(8, 1)
    said = {
        "a beam": (prompts, generate(model, prompts, pad=0, strategy=beam, **options)),
        "given": (prompts, generate(model, prompts, pad=0, strategy=Conditional(chance=chance, strategy=beam), **options)),
        "samples": (many, generate(model, many, pad=0, strategy=Sample(generator=torch.Generator().manual_seed(0)), **options)),
    }  # fmt: skip
    figures = {name: sum(map(holds, lines)) / len(lines) for name, (_, lines) in said.items()}
    figures |= {f"nats, {name}": nats(*said[name]) for name in ("given", "samples")}
    held = figures["a beam"] < 0.5 < figures["given"] and figures["nats, given"] < figures["nats, samples"]
    return finding(figures, held, "share of lines of 20 characters or more")
