"""What tasks with one class a sample share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from everyformer.data.task import Digest, Examples, Score, Task, used
from everyformer.errors import DoesNotFit, UnknownName
from everyformer.objectives import Classification, Distillation, HardDistillation, Objective
from everyformer.objectives.base import LABELS
from everyformer.objectives.classes import class_loss
from everyformer.specs import Spec, spec

TOLD: dict[str, type[Objective]] = {"probabilities": Distillation, "decision": HardDistillation}
"""What a teacher tells its student."""
TOGETHER = 256
"""Raw inputs that are answered in one pass."""


class ClassTask(Task):
    """Base of tasks with one class a sample."""

    metric: ClassVar[str] = "accuracy"
    parts: dict[str, tuple[Any, Any]]
    """The samples and the labels of each part."""

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        names: list[str] = self.state["classes"]
        return names

    def raw(self, split: str, index: int) -> tuple[Any, ...]:
        """The raw values of a sample, for the hash of the samples scored."""
        raise NotImplementedError

    def show(self, split: str, index: int) -> str:
        """A sample as a person sees it: a text or a data URI."""
        raise NotImplementedError

    def prepare(self, inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Raw inputs into a batch without labels."""
        raise NotImplementedError

    def objective(self, **options: Any) -> Spec[Any]:
        """Cross entropy, with label smoothing, mixup and cutmix where they are asked for; `teacher=RUN` distils.

        `told="decision"` has the student learn the teacher's likeliest class, and not its probabilities.
        """
        told = options.pop("told", "probabilities")
        if told not in TOLD:
            raise UnknownName("objective.told", str(told), TOLD)
        return spec(TOLD[told] if options.get("teacher") else Classification, **options)

    def evaluate(
        self, model: nn.Module, split: str, *, batch: int = 256, decoding: Mapping[str, Any] | None = None
    ) -> Score:
        """Accuracy and cross entropy (nats) over all samples of a part."""
        digest, examples = Digest(), Examples()
        loss, right, total = 0.0, 0, 0
        for indices, tensors, logits in self.answers(model, split, batch):
            if logits.shape[-1] != len(self.classes):
                raise DoesNotFit(
                    f"the model answers with {logits.shape[-1]} classes and the data has {len(self.classes)}; "
                    f"build the design with classes={len(self.classes)}",
                    "head",
                )
            labels = tensors[LABELS]
            loss += float(class_loss(logits.double(), labels).sum())
            share = logits.softmax(-1)
            sure, said = share.max(-1)
            for row, index in enumerate(indices):
                expected, got = int(labels[row]), int(said[row])
                digest.add(*self.raw(split, index), expected)
                if examples.wants(expected == got):
                    examples.add(
                        expected == got, input=self.show(split, index), expected=self.classes[expected],
                        answer=self.classes[got], confidence=float(sure[row]),
                    )  # fmt: skip
                right += expected == got
            total += len(indices)
        return Score({"accuracy": right / total, "loss": loss / total}, total, str(digest), examples.kept)

    def baseline(self, split: str) -> dict[str, Any]:
        """The accuracy of always answering with the commonest class of the training part."""
        train, labels = (torch.as_tensor(self.parts[part][1]) for part in ("train", split))
        common = int(train.bincount().argmax())
        accuracy = float((labels == common).double().mean())
        return {"name": f"always '{self.classes[common]}', the commonest class", self.metric: accuracy}

    def predict(
        self, model: nn.Module, inputs: Sequence[Any], *, decoding: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The likeliest class of each raw input, with the probability of every class."""
        answers: list[dict[str, Any]] = []
        with used(model) as device:
            for start in range(0, len(inputs), TOGETHER):
                tensors = self.prepare(inputs[start : start + TOGETHER])
                share = model(**{k: v.to(device) for k, v in tensors.items()}).float().softmax(-1).cpu()
                for row in share:
                    best = int(row.argmax())
                    scores = dict(zip(self.classes, row.tolist()))
                    answers.append({"label": self.classes[best], "confidence": float(row[best]), "scores": scores})
        return answers
