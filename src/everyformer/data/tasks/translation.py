"""Translation: a text into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data.decoding import Decoding
from everyformer.data.padding import pad_right
from everyformer.data.sources import Where, read_rows
from everyformer.data.splits import divide
from everyformer.data.task import Digest, Examples, Score, affordable, indices_of, task, used
from everyformer.data.vocabulary import texts_of
from everyformer.data.worded import Readable, ReadableOptions
from everyformer.data.words import words
from everyformer.errors import BadInput
from everyformer.objectives import SequenceToSequence
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

TOGETHER = 64
"""Sentences that are translated in one pass, longest first."""


@dataclass(kw_only=True)
class Options(ReadableOptions):
    """The `data` section of translation."""

    target: str | None = None
    """The column of its translation."""
    vocabulary: int = 10000
    """Tokens that BPE, trained on both sides, has at most."""
    length: int = 256
    """Tokens of a sentence at most; longer pairs are left out of training, longer sources are refused elsewhere."""


@task
class Translation(Readable):
    """A source text into a target text, one vocabulary for both."""

    name: ClassVar[str] = "translation"
    metric: ClassVar[str] = "bleu"
    watched: ClassVar[tuple[str, str]] = ("loss", "min")
    generates: ClassVar[bool] = True
    Options: ClassVar[type[Where]] = Options
    texts: dict[str, tuple[list[str], list[str]]]
    parts: dict[str, tuple[list[np.ndarray], list[np.ndarray]]]

    @classmethod
    def read(cls, options: Any) -> Self:
        """Read the pairs and train the vocabulary on both sides of the training part."""
        rows = read_rows(options)
        source = rows["train"].pick(options.input, ("source", "src"), "input")
        target = rows["train"].pick(options.target, ("target", "tgt"), "target")
        self = cls(options, {"source": source, "target": target})
        self.texts = {
            split: (
                texts_of(part.column(source), source, part.where),
                texts_of(part.column(target), target, part.where),
            )
            for split, part in divide(rows, options).items()
        }
        self.learn([f" {text.strip()}" for side in self.texts["train"] for text in side])
        self.facts = self.state["facts"] = {"vocabulary": self.vocabulary.size, "length": options.length}
        self.parts = {split: (self.encode(pair[0]), self.encode(pair[1])) for split, pair in self.texts.items()}
        self._leave_long_ones()
        return self

    def _leave_long_ones(self) -> None:
        longest = self.options.length
        sources, targets = self.parts["train"]
        kept = [i for i, cost in enumerate(self.costs("train")) if cost <= longest]
        if not kept:
            raise BadInput(f"every training pair has more than {longest} tokens; raise data.length")
        self.parts["train"] = [sources[i] for i in kept], [targets[i] for i in kept]
        self.texts["train"] = [self.texts["train"][0][i] for i in kept], [self.texts["train"][1][i] for i in kept]

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text; the end token closes it."""
        return self.vocabulary.sentences(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """A text of token ids."""
        return self.vocabulary.decode(ids).strip()

    def size(self, split: str) -> int:
        """How many pairs a part has."""
        return len(self.parts[split][0]) if split in getattr(self, "parts", {}) else 0

    def costs(self, split: str) -> list[int]:
        """The longer side of each pair."""
        return [max(len(s), len(t)) for s, t in zip(*self.parts[split])]

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs`, `mask`, `target` (from the begin token on), `target_mask`, and `labels` (to the end token)."""
        rows = indices_of(indices, self.size(split), split)
        (sources, targets), words = self.parts[split], self.vocabulary
        inputs, mask = pad_right([sources[i] for i in rows], words.pad)
        labels, real = pad_right([targets[i] for i in rows], words.pad)
        begun = torch.cat((torch.full((len(rows), 1), words.begin), labels[:, :-1]), 1)
        target = begun.masked_fill(~real, words.pad)
        batch = {"inputs": inputs, "target": target, LABELS: labels.masked_fill(~real, IGNORED)}
        return {**batch, **({} if mask.all() else {"mask": mask}), **({} if real.all() else {"target_mask": real})}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of the target's tokens, with label smoothing where asked for."""
        return spec(SequenceToSequence, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Loss in nats a token; where `decoding` is given also BLEU of the generated text over all pairs.

        `bleu` is sacrebleu's on raw text (with `data.lowercase` every capital is a mistake), `bleu_lowercase` the same without case, `bleu_tokenized` multi-bleu's on
        lowercased words and marks (`words`), as many papers report it.
        """
        digest = Digest()
        total, count = 0.0, 0
        longest = max(self.costs(split)) if self.size(split) else 1
        for indices, tensors, logits in self.answers(
            model, split, affordable(batch, longest * self.vocabulary.size)
        ):  # fmt: skip
            labels = tensors[LABELS]
            losses = F.cross_entropy(logits.mT.double(), labels, reduction="none", ignore_index=IGNORED)
            total += float(losses.sum())
            count += int((labels != IGNORED).sum())
            for index in indices:
                digest.add(self.texts[split][0][index], self.texts[split][1][index])
        figures = {"loss": total / count}
        examples: dict[str, list[dict[str, Any]]] = {}
        if decoding is not None:
            sources, references = self.texts[split]
            said = [each["text"] for each in self.predict(model, sources, decoding=decoding)]
            figures |= bleu(said, references, self.state["target"])
            examples = _examples(sources, references, said)
        return Score(figures, self.size(split), str(digest), examples)

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The translation of each text; a beam of 5 where `decoding` names no strategy."""
        given = dict(decoding or {})
        chosen = Decoding.of(given if "strategy" in given else {"strategy": "beam", "size": 5, **given})
        sources = self.encode(texts_of(list(inputs), "input", "the inputs"))
        for row, tokens in enumerate(sources):
            if len(tokens) > self.options.length:
                raise BadInput(
                    f"text {row} has {len(tokens)} tokens and the model was trained on at most {self.options.length}; "
                    "cut it into sentences or train with a larger data.length"
                )
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        answers: list[dict[str, Any]] = [{} for _ in sources]
        words = self.vocabulary
        with used(model) as device:
            for start in range(0, len(order), TOGETHER):
                rows = order[start : start + TOGETHER]
                ids, mask = pad_right([sources[i] for i in rows], words.pad)
                most = min(chosen.max_tokens, 2 * ids.shape[1] + 10)
                said = chosen.generate(
                    model, ids.to(device), mask=mask.to(device), bos=words.begin, eos=words.end, pad=words.pad,
                    max_tokens=most, pieces=words.pieces,
                )  # fmt: skip
                for row, ids_said in zip(rows, said):
                    answers[row] = {"input": inputs[row], "text": self.decode(ids_said)}
        return answers


def bleu(said: Sequence[str], references: Sequence[str], language: str = "") -> dict[str, float]:
    """BLEU of translations three ways (Post, 2018)."""
    from sacrebleu import corpus_bleu

    plain = [words(text.lower(), language) for text in said], [[words(text.lower(), language) for text in references]]
    return {
        "bleu": corpus_bleu(said, [references]).score,
        "bleu_lowercase": corpus_bleu(said, [references], lowercase=True).score,
        "bleu_tokenized": corpus_bleu(*plain, tokenize="none", smooth_method="none", force=True).score,
    }


def _examples(
    sources: Sequence[str], references: Sequence[str], said: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    kept = Examples()
    for source, reference, text in zip(sources, references, said):
        right = text.lower() == reference.strip().lower()
        if kept.wants(right):
            kept.add(right, input=source, expected=reference, answer=text)
    return kept.kept
