"""Dense captioning: what things a picture shows, the box of each, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.boxes import corners
from everyformer.data.decoding import Decoding
from everyformer.data.pictured import PictureOptions, sorted_examples
from everyformer.data.precision import Precision
from everyformer.data.sources import Rows, Where
from everyformer.data.task import Digest, Score, affordable, task, used
from everyformer.data.tasks.detection import Detection, outlined, told
from everyformer.data.worded import Worded
from everyformer.errors import BadInput, DoesNotFit
from everyformer.objectives import DescribedRegions
from everyformer.objectives.base import IGNORED, LABELS
from everyformer.specs import Spec, spec


@dataclass(kw_only=True)
class Options(PictureOptions):
    """The `data` section of dense captioning: COCO's format beside the pictures, with a `caption` in each annotation, or a
    table with a column of boxes (left, top, right and bottom in pixels) and one of their captions. Do not set `flip` where
    captions tell left and right apart.
    """

    captions: str | None = None
    """The column of what is said of the boxes."""
    tokens: Literal["characters", "bytes", "words", "spelled", "lzw", "likely", "bpe"] = "bpe"
    vocabulary: int = 8192
    """Tokens that BPE and words have at most."""
    lowercase: bool = False
    """Lowercase the captions first; BPE only."""
    surest: float = 0.5
    """In use, only things that are at least as sure as this are told."""


@task
class DenseCaptioning(Detection, Worded):
    """Pictures into boxes with captions, written word by word; the captions of the data stand for classes."""

    name: ClassVar[str] = "dense-captioning"
    metric: ClassVar[str] = "ap50"
    watched: ClassVar[tuple[str, str]] = ("boxes", "max")
    Options: ClassVar[type[Where]] = Options
    captions: list[str]
    """What is said of things, each caption once: those of the training part first."""
    known: int
    """How many of them the training part has."""

    def fit(self, rows: Mapping[str, Rows]) -> None:
        """Learn the vocabulary from the captions of the training part."""
        parts = [rows["train"], *(part for split, part in rows.items() if split != "train")]
        first, *others = [[str(one) for each in part.column(self._kinds(part)) for one in each] for part in parts]
        if not first:
            raise BadInput(f"{rows['train'].where} has no box; give data that shows things")
        self.captions, self.known = list(dict.fromkeys(chain(first, *others))), len(set(first))
        self.learn([f" {each.strip()}" for each in first])  # as `sentences` writes them
        longest = max(map(len, self.vocabulary.sentences(self.captions[: self.known])))
        self.facts.update(vocabulary=self.vocabulary.size, length=1 + longest)

    @property
    def classes(self) -> list[str]:
        """The captions."""
        return self.captions

    def objective(self, **options: Any) -> Spec[Any]:
        """The loss of regions and of what is said of them."""
        written = (each.tolist() for each in self.vocabulary.sentences(self.captions[: self.known]))
        return spec(DescribedRegions, texts=tuple((self.vocabulary.begin, *each) for each in written), **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """`boxes`, COCO's average precision whatever is said of them; where `decoding` is given also `ap50`, that at a threshold
        of 0.5 of boxes whose captions are word for word right, the mean over all captions that are there.
        """
        digest, boxes, named, shown = Digest(), Precision(), Precision(), []
        every, numbers = max(1, self.size(split) // 8), {caption: i for i, caption in enumerate(self.classes)}
        for indices, tensors, given in self.answers(model, split, affordable(batch, 2**16)):
            for row, index in enumerate(indices):
                labels = tensors[LABELS][row]
                real = labels[labels[:, 0] != IGNORED]
                digest.add(self.parts[split][0][index], real)
                truth = corners(real[:, 1:]), real[:, 0].long()
                ends, kinds, scores = told(given[row])
                boxes.add(ends, kinds, scores, truth[0], 0 * truth[1])
                if decoding is None:
                    continue
                places, captions, sure = self.found(model, {"inputs": tensors["inputs"][row : row + 1]}, decoding)
                said = torch.tensor([numbers.get(each, len(numbers)) for each in captions], dtype=torch.long)
                named.add(places, said, sure, *truth)
                if index % every == 0:
                    alone, certain = Precision(), sure >= self.options.surest
                    alone.add(places, said, sure, *truth)
                    pairs = (truth, (places[certain], said[certain]))
                    drawn = [outlined(self.shown(split, index), *each) for each in pairs]
                    expected = ", ".join(self.classes[kind] for kind in truth[1].tolist())
                    answer = ", ".join(captions[i] for i in certain.nonzero()[:, 0].tolist())
                    strip = {"input": self.strip(split, index, *drawn), "expected": expected, "answer": answer}
                    shown.append({**strip, "ap50": alone.figures()["ap50"]})
        figures = {"boxes": boxes.figures()["ap"]}
        if decoding is not None:
            figures["ap50"] = named.figures()["ap50"]
        return Score(figures, self.size(split), str(digest), sorted_examples(shown, "ap50"))

    def found(
        self, model: nn.Module, tensors: Mapping[str, Tensor], decoding: Mapping[str, Any]
    ) -> tuple[Float[Tensor, "N 4"], list[str], Float[Tensor, " N"]]:
        """The boxes (corners, as shares) of all regions, what is said of each, and the scores."""
        from everyformer.generation import describe
        from everyformer.models import Described

        if not isinstance(model, Described):
            raise DoesNotFit(
                f"{type(model).__name__} writes nothing of what it finds; take a design of dense-captioning"
            )
        words, most = self.vocabulary, self.facts["length"] - 1
        chosen = Decoding.of({"max_tokens": most, **decoding})
        with used(model) as device:
            (things,) = describe(
                model, tensors["inputs"].to(device), bos=[words.begin], eos=words.end, pad=words.pad,
                max_tokens=min(chosen.max_tokens, most), strategy=chosen.for_pieces(words.pieces),
            )  # fmt: skip
        boxes, scores = torch.tensor([each.box for each in things]), torch.tensor([each.score for each in things])
        return boxes.view(-1, 4), [words.decode(each.tokens).strip() for each in things], scores

    def labels(self, answers: Sequence[Mapping[str, Any]]) -> list[str]:
        """What is said in these answers."""
        return list(dict.fromkeys(thing["label"] for answer in answers for thing in answer["things"]))

    def _kinds(self, rows: Rows) -> str:
        return rows.pick(self.options.captions, ("captions", "texts", "phrases", "kinds"), "captions")
