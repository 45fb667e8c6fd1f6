"""Masked language modelling: hidden tokens guessed from both sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data.draws import uniform
from everyformer.data.sources import Where
from everyformer.data.task import Digest, Examples, Score, affordable, indices_of, task, used
from everyformer.data.tasks.language import read_texts
from everyformer.data.vocabulary import EOS, MASK, SPECIALS
from everyformer.data.worded import Readable, ReadableOptions
from everyformer.errors import BadInput, EveryformerError
from everyformer.objectives import MaskedToken
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

SCORED_SEED = 0
"""Which tokens are hidden when a part is scored: always the same."""


@dataclass(kw_only=True)
class Options(ReadableOptions):
    """The `data` section of masked language modelling."""

    length: int = 128
    """Tokens in a window, '<s>' and '</s>' among them."""
    hidden: float = 0.15
    """Share of the tokens that are guessed."""


@task
class MaskedLanguageModelling(Readable):
    """Text in windows, of whose tokens some are hidden (Devlin et al., BERT, 2019, section 3.1)."""

    name: ClassVar[str] = "masked-language-modelling"
    metric: ClassVar[str] = "loss"
    better: ClassVar[str] = "min"
    Options: ClassVar[type[Where]] = Options
    parts: dict[str, Tensor]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Read the text and fit the vocabulary on its training part."""
        texts = read_texts(options)
        self = cls(options, {})
        self.learn([texts["train"]])
        self.facts = self.state["facts"] = {"vocabulary": self.vocabulary.size, "length": options.length}
        if self.vocabulary.mask is None:
            raise BadInput(
                f"the tokenizer of '{options.tokenizer}' has no token for what is hidden; give that of a BERT"
            )
        before, after = self.ends
        inner = options.length - len(before) - len(after)
        self.parts = {}
        for split, text in texts.items():
            ids = torch.from_numpy(self.vocabulary.encode(text))
            if len(ids) < inner or inner < 1:
                raise EveryformerError(
                    f"the '{split}' part has {len(ids)} tokens, fewer than one window of data.length={options.length}; "
                    "give more text or lower data.length"
                )
            windows = ids[: len(ids) // inner * inner].view(-1, inner)
            ends = [torch.tensor(end).expand(len(windows), -1) for end in (before, after)]
            self.parts[split] = torch.cat((ends[0], windows, ends[1]), 1)
        return self

    @property
    def ends(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before a window, and after it."""
        return self.vocabulary.opening, self.vocabulary.closing or (EOS,)

    def size(self, split: str) -> int:
        """How many windows a part has; what does not fill the last one is left out."""
        return len(self.parts[split]) if split in getattr(self, "parts", {}) else 0

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, N) and `labels` (B, N), -100 where nothing is to be guessed.

        Of the tokens that are guessed 80 % become '<mask>', 10 % a random token and 10 % stay; drawn from (seed, index).
        """
        rows = indices_of(indices, self.size(split), split)
        ids = self.parts[split][rows]
        length = ids.shape[1]
        drawn = uniform(seed if train else SCORED_SEED, rows, 3 * length).view(-1, 3, length)
        before, after = map(len, self.ends)
        guessed = drawn[:, 0] < self.options.hidden
        guessed[:, :before] = guessed[:, length - after :] = False
        first = ids.new_tensor(int(self.vocabulary.specials))
        other = first + (drawn[:, 2] * (self.vocabulary.size - self.vocabulary.specials)).long()
        inputs = torch.where(guessed & (drawn[:, 1] < 0.8), self.vocabulary.mask, ids)
        inputs = torch.where(guessed & (drawn[:, 1] >= 0.9), other, inputs)
        return {"inputs": inputs, LABELS: ids.masked_fill(~guessed, IGNORED)}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of the hidden tokens."""
        return spec(MaskedToken, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Loss (nats) and accuracy over the hidden tokens of all windows, the same ones each time."""
        digest, examples = Digest(), Examples()
        total, count, right = 0.0, 0, 0
        batch = affordable(batch, self.options.length * self.vocabulary.size)
        for indices, tensors, logits in self.answers(model, split, batch):
            labels = tensors[LABELS]
            losses = F.cross_entropy(logits.mT.double(), labels, reduction="none", ignore_index=IGNORED)
            said = logits.argmax(-1)
            total += float(losses.sum())
            count += int((labels != IGNORED).sum())
            right += int((said == labels).sum())
            for row in range(len(indices)):
                digest.add(tensors["inputs"][row], labels[row])
                self._example(examples, tensors["inputs"][row], labels[row], said[row])
        if not count:
            raise EveryformerError(f"no token of '{split}' was hidden; raise data.hidden or give more text")
        figures = {"loss": total / count, "accuracy": right / count, "perplexity": math.exp(min(total / count, 700))}
        return Score(figures, self.size(split), str(digest), examples.kept)

    def _example(self, examples: Examples, inputs: Tensor, labels: Tensor, said: Tensor) -> None:
        places = (labels != IGNORED).nonzero()[:, 0]
        if not len(places):
            return
        right = bool((said[places] == labels[places]).all())
        if examples.wants(right):
            examples.add(
                right, input=self._shown(inputs.tolist()), expected=self._shown(labels[places].tolist(), " "),
                answer=self._shown(said[places].tolist(), " "),
            )  # fmt: skip

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which '<mask>' stands where a token is missing, between begin and end token."""
        first, *rest = (self.vocabulary.encode(piece).tolist() for piece in text.split(SPECIALS[MASK]))
        before, after = self.ends
        return [*before, *first, *(i for piece in rest for i in (self.vocabulary.mask, *piece)), *after]

    def _shown(self, ids: list[int], between: str = "") -> str:
        named = {self.vocabulary.mask: SPECIALS[MASK]}
        return between.join(named.get(i) or self.vocabulary.decode([i]) for i in ids)

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The likeliest token for each '<mask>' in each text."""
        answers = []
        with used(model) as device:
            for text in inputs:
                given = torch.tensor([self.encode(text)], device=device)
                if self.vocabulary.mask not in given:
                    raise BadInput(f"nothing to guess in {text!r}; write '{SPECIALS[MASK]}' where a token is missing")
                said = model(inputs=given)[0].argmax(-1)[given[0] == self.vocabulary.mask].tolist()
                words = [self.vocabulary.decode([i]) for i in said]
                parts = text.split(SPECIALS[MASK])
                filled = parts[0] + "".join(word + part for word, part in zip(words, parts[1:]))
                answers.append({"input": text, "tokens": words, "text": filled})
        return answers
