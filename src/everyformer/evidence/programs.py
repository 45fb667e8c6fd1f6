"""Evidence for programs that are transformers, and transformers that are programs."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.evidence.descent import descend
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.interpret import anneal, as_program, computer, discrete, rasp, subleq

_LETTERS, _LONGEST = "abcdefgh", 8


def _texts(alphabet: str, count: int) -> list[str]:
    drawn = random.Random(0)
    return ["".join(drawn.choices(alphabet, k=drawn.randint(1, _LONGEST))) for _ in range(count)]


@evidence(
    "rasp",
    kind="claim",
    claim="Programs compile to transformers of the layers and heads that table 1 says, which compute the same.",
)
def programs_compile() -> Finding:
    """1,000 random sequences of up to 8 tokens for each program; layers with attention and their heads."""
    programs = {
        "reverse": (rasp.reverse(), _LETTERS, (2, 1)),
        "histogram": (rasp.histogram(), _LETTERS, (1, 1)),
        "sort": (rasp.sort(), _LETTERS, (2, 1)),
        "dyck-1": (rasp.dyck(["()"]), "()", (2, 1)),
        "dyck-2": (rasp.dyck(["()", "{}"]), "(){}", None),
    }
    figures, holds = {}, True
    for name, (program, alphabet, published) in programs.items():
        compiled = rasp.compile_program(program, alphabet, _LONGEST)
        texts = _texts(alphabet, 1000)
        same = sum(ours == rasp.run(program, text) for ours, text in zip(compiled.batch(texts), texts, strict=True))
        heads = [block.mixer.heads for block in compiled.model.backbone.blocks if block.mixer is not None]  # type: ignore
        size = len(heads), max(heads)
        holds = holds and same == len(texts) and published in (None, size)
        figures[name] = {"same": same, "layers": size[0], "heads": size[1], "width": compiled.model.head.place[0]}
    finding = ", ".join(
        f"{name} {each['same']} of 1,000 in {each['layers']} layers of {each['heads']}"
        for name, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)


_DIGITS = 6
"""Of a vocabulary of 8: a token begins each sequence, and one pads in the paper."""
_NAMES = [*map(str, range(_DIGITS)), "<s>"]


def _histograms(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Sequences of one length of 1 to 7 digits after their first token, and how often the token at each place stands there."""
    length = int(torch.randint(1, _LONGEST, (1,), generator=generator))
    digits = torch.randint(0, _DIGITS, (count, length), generator=generator)
    return F.pad(digits, (1, 0), value=_DIGITS), (digits[:, :, None] == digits[:, None]).sum(-1)


def _learnt(steps: int, batch: int) -> nn.Module:
    """A discrete transformer of one layer that has learnt histograms: Adam at 0.05, temperatures from 3 to 0.01 (section 4)."""
    generator = torch.Generator().manual_seed(0)
    design = discrete(vocabulary=_DIGITS + 1, length=_LONGEST, classes=_LONGEST)
    model: nn.Module = design.build(seed=0)
    torch.manual_seed(0)

    def loss(step: int) -> Tensor:
        anneal(model, 3 * (0.01 / 3) ** (step / steps))
        inputs, counts = _histograms(generator, batch)
        return F.cross_entropy(model(inputs)[:, 1:].flatten(0, 1), counts.flatten())

    return descend(model, loss, steps, lr=0.05)


@evidence(
    "transformer-programs",
    kind="claim",
    claim="A discrete transformer of one layer learns histograms perfectly, and the program printed from it gives the same "
    "answers on its own (table 1).",
)
def histograms_are_learnt_and_printed() -> Finding:
    """Digits 0 to 5, up to 7 of them; 3,000 steps of 256 sequences where the paper has 9,800 of 512."""
    model = _learnt(3000, 256)
    text = as_program(model, _NAMES, range(_LONGEST))
    program: dict[str, Any] = {}
    exec(text, program)
    generator = torch.Generator().manual_seed(1)
    right = asked = same = 0
    for _ in range(100):
        inputs, counts = _histograms(generator, 10)
        with torch.no_grad():
            said = model(inputs).argmax(-1)
        right, asked = right + int((said[:, 1:] == counts).sum()), asked + counts.numel()
        same += sum(
            program["run"]([_NAMES[i] for i in row]) == answers
            for row, answers in zip(inputs.tolist(), said.tolist(), strict=True)
        )
    figures = {"accuracy": right / asked, "same": same, "sequences": 1000, "lines": len(text.splitlines())}
    held = right / asked > 0.995 and same == 1000
    finding = (
        f"right at {right / asked:.2%} of the places of 1,000 sequences (published 100 %); the program of "
        f"{figures['lines']} lines answers {same} of them as the model does"
    )
    return Finding(verdict(held), finding, figures)


def _turns(cells: int, sharp: float, turns: int) -> int:
    """For how many turns, of so many, the memory and the place of a random program are the interpreter's."""
    machine, drawn = computer(cells, sharp=sharp), random.Random(cells)
    memory = [drawn.randrange(-128, 128) for _ in range(cells)]
    program = [(drawn.randrange(cells), drawn.randrange(cells), drawn.randrange(cells)) for _ in range(cells)]
    stream, place = machine.load(memory, program), 0
    for turn in range(turns):
        stream = machine.run(stream, 1)
        memory, place = subleq(memory, program, machine.bits, place)
        if machine.memory(stream) != memory or machine.place(stream) != place:
            return turn
    return turns


@evidence(
    "looped-transformer",
    kind="claim",
    claim="A constant number of layers in a loop carries out programs of any length without drift; too soft an attention does not "
    "(section 5).",
)
def programs_run_in_a_loop() -> Finding:
    """Random programs of 8 to 64 SUBLEQ instructions, 2,000 turns of four blocks, compared with the interpreter at each."""
    figures = {f"{cells} cells": _turns(cells, 100.0, 2000) for cells in (8, 16, 32, 64)}
    soft = {f"sharpness {sharp:g}": _turns(64, sharp, 2000) for sharp in (1.0, 2.0, 4.0)}
    holds = set(figures.values()) == {2000} and soft["sharpness 1"] < 10
    finding = ", ".join(f"{name} {turns}" for name, turns in (figures | soft).items())
    return Finding(verdict(holds), f"turns of 2,000 that are the interpreter's: {finding}", figures | soft)
