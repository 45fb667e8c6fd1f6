"""Distillation: a student learns from a teacher's answers as well as from the labels."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import DoesNotFit, EveryformerError
from everyformer.objectives.base import IGNORED, LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes, class_loss
from everyformer.objectives.text import token_loss
from everyformer.registry import part


class WithTeacher(Objective):
    """Base: a teacher that is neither trained nor saved."""

    def __init__(self, *, teacher: str | None) -> None:
        super().__init__()
        self.teacher_path = teacher
        self._teacher: list[nn.Module] = []

    def teach(self, teacher: nn.Module) -> None:
        """Set the teacher."""
        self._teacher = [teacher.eval().requires_grad_(False)]

    @property
    def teacher(self) -> nn.Module:
        """The teacher."""
        if not self._teacher:
            raise EveryformerError(
                f"{type(self).__name__} has no teacher; call objective.teach(model) or set objective.teacher=RUN"
            )
        return self._teacher[0]


class Taught(WithTeacher):
    """What distillations share.

    A head that has an answer of its own for the teacher (`DistilledHead`) is held to the teacher by that one alone.
    """

    def __init__(self, *, teacher: str | None, share: float, smoothing: float) -> None:
        super().__init__(teacher=teacher)
        self.share, self.smoothing = share, smoothing

    def soft(self, student: Float[Tensor, "B C"], teacher: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
        """What the student is told by the teacher."""
        raise NotImplementedError

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """(1 - share) cross entropy of the labels + share of the teacher's, summed over the samples."""
        teacher = self.teacher
        labels = batch[LABELS]
        notes: dict[str, Tensor] = {}
        noted = {"context": Context(notes=notes)} if "context" in signature(model.forward).parameters else {}
        both = answer(model, {**batch, **noted})
        logits = notes.get("labels", both).float()
        taught = notes.get("teacher", both).float()
        check_classes(labels, logits.shape[-1])
        with torch.no_grad():
            told = answer(teacher, batch).float()
        if told.shape != logits.shape:
            raise DoesNotFit(
                f"the teacher answers {tuple(told.shape)} and the student {tuple(logits.shape)}", "teacher"
            )
        hard = class_loss(logits, labels, self.smoothing)
        losses = (1 - self.share) * hard + self.share * self.soft(taught, told)
        count = torch.tensor(len(labels), device=labels.device)
        return Loss(losses.sum(), count)


def softly(student: Float[Tensor, "*b C"], teacher: Float[Tensor, "*b C"], temperature: float) -> Float[Tensor, "*b"]:
    """T^2 KL(teacher / T, student / T), so that the gradient keeps its size at any temperature."""
    told = (teacher / temperature).log_softmax(-1)
    apart = F.kl_div((student / temperature).log_softmax(-1), told, reduction="none", log_target=True).sum(-1)
    return apart * temperature**2


@part("objectives")
class Distillation(Taught):
    """The teacher's soft classes at a temperature (Hinton et al., 2015, section 2; DeiT, 2021, equation 2)."""

    def __init__(
        self, *, teacher: str | None = None, temperature: float = 3.0, share: float = 0.5, smoothing: float = 0.0
    ) -> None:
        super().__init__(teacher=teacher, share=share, smoothing=smoothing)
        self.temperature = temperature

    def soft(self, student: Tensor, teacher: Tensor) -> Tensor:
        """What warm classes are apart."""
        return softly(student, teacher, self.temperature)


@part("objectives")
class AlignedDistillation(Taught):
    """A decoder-only teacher tells an encoder-decoder the next token of every target (Elfeki et al., 2025, section 3).

    The teacher reads source and target as one text, the target without the token that it begins with: what it says after
    the last token of the source is for that one. Both have the same vocabulary.
    """

    def __init__(
        self, *, teacher: str | None = None, temperature: float = 1.0, share: float = 0.9, smoothing: float = 0.0
    ) -> None:
        super().__init__(teacher=teacher, share=share, smoothing=smoothing)
        self.temperature = temperature

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """(1 - share) cross entropy of the labels + share T^2 KL(teacher / T, student / T), summed over the target tokens."""
        labels, logits = batch[LABELS], answer(model, batch).float()
        with torch.no_grad():
            told = self.told(batch).float()
        if told.shape != logits.shape:
            raise DoesNotFit(
                f"the teacher answers {tuple(told.shape)} and the student {tuple(logits.shape)}", "teacher"
            )
        hard = token_loss(logits, labels, self.smoothing)
        soft = softly(logits, told, self.temperature)[labels != IGNORED].sum()
        return Loss((1 - self.share) * hard.total + self.share * soft, hard.count)

    def told(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "B N V"]:
        """The teacher's logits after the last token of each source and after each token of its target but the first."""
        source, target = batch["inputs"], batch["target"]
        real = batch.get("mask", torch.ones_like(source, dtype=torch.bool))
        more = batch.get("target_mask", torch.ones_like(target, dtype=torch.bool))
        whole = torch.cat((source, target[:, 1:]), 1)
        said = self.teacher(whole, mask=torch.cat((real, more[:, 1:]), 1))
        last = source.shape[1] - 1 - real.flip(1).int().argmax(1)
        first = said[torch.arange(len(said), device=last.device), last][:, None]
        return torch.cat((first, said[:, source.shape[1] :]), 1)


@part("objectives")
class HardDistillation(Taught):
    """The teacher's likeliest class, taken for a second label (Touvron et al., DeiT, 2021, equation 3)."""

    def __init__(self, *, teacher: str | None = None, share: float = 0.5, smoothing: float = 0.0) -> None:
        super().__init__(teacher=teacher, share=share, smoothing=smoothing)

    def soft(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Cross entropy of the teacher's decision."""
        return class_loss(student, teacher.argmax(-1), self.smoothing)
