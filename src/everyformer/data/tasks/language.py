"""Language modelling: the next token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.data.decoding import Decoding
from everyformer.data.draws import mixed, uniform
from everyformer.data.hidden import KINDS, hide, shortest
from everyformer.data.misspelling import misspelt
from everyformer.data.sources import Where, read_rows
from everyformer.data.splits import divide, shares
from everyformer.data.task import Digest, Examples, Score, affordable, indices_of, task, used
from everyformer.data.vocabulary import texts_of
from everyformer.data.worded import Readable, ReadableOptions
from everyformer.errors import BadInput, EveryformerError
from everyformer.objectives import NextToken
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec

MISSPELT = "misspelt"
"""The test part with spelling errors, where they are asked for, and the figure for it."""
SCORED = 200
"""Windows of the test part of each kind and length in which facts are looked for, where there are as many."""


@dataclass(kw_only=True)
class Options(ReadableOptions):
    """The `data` section of language modelling."""

    length: int = 256
    """Tokens in a window."""
    noise: float = 0.0
    """Share of the letters of the test part that are misspelt for a figure beside the others, `misspelt`, in bits a byte."""
    hidden: int = 0
    """Facts written into each window (one, a pass key, into every second) and asked for at its end; the answers alone are
    learnt and scored. Of bytes only."""
    lengths: list[int] = field(default_factory=list)
    """Lengths of windows at which hidden facts are looked for in the test part: the figures `recall@N` and `passkey@N`."""


@task
class LanguageModelling(Readable):
    """Text into the next token; training takes random windows, scoring takes all, one after the other."""

    name: ClassVar[str] = "language-modelling"
    metric: ClassVar[str] = "loss"
    better: ClassVar[str] = "min"
    generates: ClassVar[bool] = True
    specials: ClassVar[int] = 0
    Options: ClassVar[type[Where]] = Options
    parts: dict[str, Tensor]

    @classmethod
    def direction(cls, figure: str) -> str:
        """Less is better of all but the share of facts that are found again."""
        return "max" if figure.startswith(("recall@", "passkey@")) else cls.better

    @classmethod
    def read(cls, options: Any) -> Self:
        """Read the text, one document after the other, and fit the vocabulary on its training part."""
        _check_hidden(options)
        texts = read_texts(options)
        if options.noise and "test" in texts:
            texts[MISSPELT] = misspelt(texts["test"], options.noise)
        self = cls(options, {})
        self.learn([texts["train"]])
        longest = max(options.length, *options.lengths, 0)
        self.facts = self.state["facts"] = {"vocabulary": self.vocabulary.size, "length": longest}
        self.parts = {split: torch.from_numpy(self.vocabulary.encode(text)) for split, text in texts.items()}
        for split, ids in self.parts.items():
            needed = longest if split == "test" else options.length
            if len(ids) <= needed:
                raise EveryformerError(
                    f"the '{split}' part has {len(ids)} tokens, and one window of data.length={needed} takes "
                    f"{needed + 1}; give more text or lower data.length"
                )
        return self

    def _part(self, split: str) -> tuple[str, int]:
        """The part of the text that windows are taken of, and their length: 'recall@1024' is of the test part."""
        kind, _, length = split.partition("@")
        return ("test", int(length)) if kind in KINDS and length.isdigit() else (split, self.options.length)

    def size(self, split: str) -> int:
        """How many windows cover a part."""
        parts: dict[str, Tensor] = getattr(self, "parts", {})
        part, length = self._part(split)
        if part not in parts:
            return 0
        whole = math.ceil((len(parts[part]) - 1) / length)
        return whole if part == split else min(whole, SCORED)

    def batch(self, split: str, indices: Sequence[int], *, train: bool = False, seed: int = 0) -> dict[str, Tensor]:
        """`inputs` (B, N) and `labels` (B, N), the token after each.

        Where `train`, window i starts anywhere, drawn from (seed, i); else it is the i-th, the last one cut short.
        """
        rows = indices_of(indices, self.size(split), split)
        part, length = self._part(split)
        ids = self.parts[part]
        if train:
            starts = (uniform(seed, rows, 1) * (len(ids) - length)).long()
        else:
            starts = torch.tensor(rows)[:, None] * length
        places = starts + torch.arange(length + 1)
        inside = places < len(ids)
        taken = ids[places.clamp(max=len(ids) - 1)]
        inputs, labels = taken[:, :-1], taken[:, 1:].masked_fill(~inside[:, 1:], IGNORED)
        if self.options.hidden:
            kinds = [KINDS[i % 2] if part == split else split.partition("@")[0] for i in rows]
            inputs, labels = hide(inputs, rows, kinds, self.options.hidden, seed if train else mixed(length))
        return {"inputs": inputs, LABELS: labels}

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy of the next token."""
        return spec(NextToken, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Loss in nats a token, perplexity, and bits a byte of UTF-8, over all windows of a part.

        Where `decoding` has a `policy` or a `storage`, each token is read with what the cache then has of those before.
        """
        score = self._score(model, split, batch, decoding or {})
        if split == "test" and self.size(MISSPELT):
            score.metrics[MISSPELT] = self._score(model, MISSPELT, batch, decoding or {}).metrics["bits_per_byte"]
        if split == "test":
            for name in (f"{kind}@{length}" for length in self.options.lengths for kind in KINDS):
                score.metrics[name] = self._found(model, name, batch)
        return score

    def _found(self, model: nn.Module, split: str, batch: int) -> float:
        """The share of the questions that a model answers."""
        right: list[Tensor] = []
        for _, tensors, logits in self.answers(
            model, split, affordable(batch, self._part(split)[1] * self.vocabulary.size)
        ):
            asked = tensors[LABELS] != IGNORED
            right.append(logits[asked].argmax(-1) == tensors[LABELS][asked])
        return torch.cat(right).float().mean().item()

    def digest(self, split: str) -> Digest:
        """The hash of the text of a part, the same however it is cut into tokens and windows."""
        digest = Digest()
        digest.add(self.vocabulary.decode(self.parts[split].tolist()))
        return digest

    def _score(self, model: nn.Module, split: str, batch: int, decoding: Mapping[str, Any]) -> Score:
        """The figures of one part."""
        examples = Examples()
        total, count, size = 0.0, 0, 0
        batch = affordable(batch, self.options.length * self.vocabulary.size)
        chosen = Decoding.of({name: value for name, value in decoding.items() if name in ("policy", "storage")})
        held = chosen.policy is not None or chosen.storage is not None
        given = self._streamed(model, split, batch, chosen) if held else self.answers(model, split, batch)
        for indices, tensors, logits in given:
            labels = tensors[LABELS]
            losses = F.cross_entropy(logits.mT.double(), labels, reduction="none", ignore_index=IGNORED)
            said = logits.argmax(-1)
            for row in range(len(indices)):
                real = labels[row] != IGNORED
                target = labels[row][real]
                total += float(losses[row].sum())
                count += len(target)
                size += self.vocabulary.count_bytes(target.tolist())
                last = said[row][real][-1:]
                right = bool((last == target[-1:]).all())
                if examples.wants(right):
                    before = tensors["inputs"][row][real].tolist()
                    words = self.vocabulary.decode
                    examples.add(
                        right, input=words(before), expected=words(target[-1:].tolist()), answer=words(last.tolist())
                    )
        loss = total / count
        figures = {"loss": loss, "perplexity": math.exp(min(loss, 700)), "bits_per_byte": total / math.log(2) / size}
        return Score(figures, self.size(split), str(self.digest(split)), examples.kept)

    def _streamed(
        self, model: nn.Module, split: str, batch: int, held: Decoding
    ) -> Iterator[tuple[list[int], dict[str, Tensor], Tensor]]:
        """What `answers` gives, token by token with a cache."""
        from everyformer.cache import Cache
        from everyformer.context import Context

        with used(model) as device:
            for start in range(0, self.size(split), batch):
                indices = list(range(start, min(start + batch, self.size(split))))
                tensors, context = self.batch(split, indices), Context(cache=Cache(held.policy, held.storage))
                each = tensors["inputs"].to(device).split(1, 1)
                logits = torch.cat([model.decode(token, context) for token in each], 1)
                yield indices, tensors, logits.float().cpu()

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """How the model goes on from each prompt."""
        chosen = Decoding.of({"max_tokens": 128, **(decoding or {})})
        return [{"input": prompt, "text": self._continue(model, prompt, chosen)} for prompt in inputs]

    def _continue(self, model: nn.Module, prompt: str, chosen: Decoding) -> str:
        """The continuation; once a window is full, its later half is what the model still sees.

        One that must match a pattern ends with its window.
        """
        ids = self.vocabulary.encode(prompt).tolist()
        if not ids:
            raise BadInput("an empty prompt; give at least one character to go on from")
        length = self.options.length
        said: list[int] = []
        with used(model) as device:
            while len(said) < chosen.max_tokens:
                seen = (ids + said)[-length:]
                seen = seen[-max(1, length // 2) :] if len(seen) == length else seen
                most = min(length - len(seen), chosen.max_tokens - len(said))
                given = torch.tensor([seen], device=device)
                pieces = self.vocabulary.pieces
                said += chosen.generate(model, given, bos=None, eos=None, pad=0, max_tokens=most, pieces=pieces)[0]
                if chosen.pattern is not None:
                    break
        return self.vocabulary.decode(said)


def _check_hidden(options: Any) -> None:
    """Refuse facts that have no room, or texts that cannot hold them."""
    if options.lengths and not options.hidden:
        raise BadInput(f"data.lengths={options.lengths} are for hidden facts; give data.hidden, how many")
    if options.hidden and options.tokens != "bytes":
        raise BadInput(f"facts are hidden in bytes; data.tokens is {options.tokens!r}, set it to bytes")
    least = min([options.length, *options.lengths])
    if least < shortest(options.hidden):
        raise BadInput(
            f"{options.hidden} facts and the questions for them take {shortest(options.hidden)} bytes; a window has {least}"
        )


def read_texts(options: Any) -> dict[str, str]:
    """The text of each part; a single document is cut in order, several are divided among the parts."""
    rows = read_rows(options)
    column = rows["train"].pick(options.input, ("text", "content", "code", "sentence"), "input")
    if len(rows) == 1 and len(rows["train"]) == 1:
        text = texts_of(rows["train"].column(column), column, rows["train"].where)[0]
        train, valid, _ = shares(options, (0.9, 0.1, 0.0))
        ends = np.cumsum([round(len(text) * train), round(len(text) * valid)])
        cut = {"train": text[: ends[0]], "valid": text[ends[0] : ends[1]], "test": text[ends[1] :]}
        return {split: part for split, part in cut.items() if part}
    parts = divide(rows, options)
    return {split: "\n".join(texts_of(part.column(column), column, part.where)) for split, part in parts.items()}
