"""Evidence for programs that are transformers, and transformers that are programs."""

from __future__ import annotations

import random

from everyformer.evidence.harness import Finding, evidence
from everyformer.interpret import rasp

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
    return Finding("holds" if holds else "does not hold at this scale", finding, figures)
