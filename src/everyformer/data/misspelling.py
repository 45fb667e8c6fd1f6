"""Text as people mistype it."""

from __future__ import annotations

import random
from itertools import pairwise


def misspelt(text: str, rate: float, seed: int = 0) -> str:
    """The text with a share `rate` of its letters in the other case, left out, doubled, or exchanged with the next one."""
    chance = random.Random(seed)
    written: list[str] = []
    swapped = False
    for letter, following in pairwise([*text, ""]):
        if swapped:
            swapped = False
        elif not letter.isalpha() or chance.random() >= rate:
            written.append(letter)
        else:
            kind = chance.randrange(4)
            swapped = kind == 3 and following.isalpha()
            written.append((letter.swapcase(), "", letter * 2, following + letter if swapped else letter)[kind])
    return "".join(written)
