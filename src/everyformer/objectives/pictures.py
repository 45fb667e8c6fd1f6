"""Pictures of which part is hidden: what stood there is to be said."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import DoesNotFit, EveryformerError
from everyformer.objectives.base import LABELS, Loss, Objective, answer
from everyformer.objectives.classes import check_classes, class_loss
from everyformer.registry import part


def patches_of(pictures: Float[Tensor, "B C Y X"], patch: int) -> Float[Tensor, "B N P"]:
    """Pictures as rows of patches; the values of a patch by row, column and channel."""
    filled = F.pad(pictures, (0, -pictures.shape[3] % patch, 0, -pictures.shape[2] % patch))
    return filled.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


@part("objectives")
class HiddenPixels(Objective):
    """Squared error of the pixels of hidden patches (He et al., MAE, 2022, section 3), counted by patches.

    `normalised` compares with each patch less its mean, over its deviation. A batch may bring the `noise` (B, N) that
    says which patches are hidden; else it is drawn.
    """

    def __init__(self, *, patch: int = 16, normalised: bool = True) -> None:
        super().__init__()
        self.patch, self.normalised = patch, normalised

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the hidden patches."""
        target = patches_of(batch["inputs"], self.patch).float()
        noise = batch["noise"] if "noise" in batch else torch.rand(target.shape[:2], device=target.device)
        notes: dict[str, Tensor] = {}
        said = answer(model, {**batch, "noise": noise, "context": Context(notes=notes)}).float()
        if said.shape != target.shape:
            raise DoesNotFit(
                f"the model answers {tuple(said.shape)} and the patches of {self.patch} pixels are "
                f"{tuple(target.shape)}; give the objective the patch of the model",
                "patch",
            )
        if self.normalised:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = notes["hidden"]
        losses = (said - target).square().mean(-1)
        return Loss((losses * hidden).sum(), hidden.sum())


class _Worded(Objective):
    """What objectives share that have a picture's hidden patches named: a code book of patches, the visual words.

    It is learnt from pictures by `learn`, and frozen.
    """

    def __init__(self, *, patch: int, words: int, share: float) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"a share of hidden patches is 0 to 1; given {share}")
        self.patch, self.words, self.share = patch, words, share
        self.codebook: Tensor | None = None

    def learn(self, pictures: Float[Tensor, "B C Y X"], rounds: int = 20) -> None:
        """Fit the visual words to the patches of `pictures`: k-means (Lloyd, 1982)."""
        cells = patches_of(pictures, self.patch).flatten(0, 1).float()
        start = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[: self.words]
        book = cells[start.to(cells.device)]
        for _ in range(rounds):
            nearest = torch.cdist(cells, book).argmin(1)
            total = torch.zeros_like(book).index_add(0, nearest, cells)
            count = nearest.bincount(minlength=len(book))[:, None]
            book = torch.where(count > 0, total / count.clamp(min=1), book)
        self.codebook = book

    def named(self, pictures: Float[Tensor, "B C Y X"]) -> Int[Tensor, "B N"]:
        """The word nearest to each patch."""
        if self.codebook is None:
            raise EveryformerError(f"{type(self).__name__} knows no visual words; call objective.learn(pictures)")
        return torch.cdist(patches_of(pictures, self.patch).float(), self.codebook.to(pictures.device)).argmin(-1)

    def hide(self, batch: Mapping[str, Tensor], shape: torch.Size) -> Bool[Tensor, "B N"]:
        """The patches that a batch says are `hidden`; else each is, with probability `share`."""
        if "hidden" in batch:
            return batch["hidden"]
        return torch.rand(shape, device=batch["inputs"].device) < self.share

    def missed(
        self, logits: Float[Tensor, "B N V"], words: Int[Tensor, "B N"], hidden: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Cross entropy of each hidden patch; 0 for the others."""
        if logits.shape[:2] != words.shape or logits.shape[2] < self.words:
            raise DoesNotFit(
                f"the model answers {tuple(logits.shape)}; expected (B, {words.shape[1]}, {self.words}): logits of "
                f"{self.words} visual words for each patch of {self.patch} pixels",
                "patch",
            )
        losses = class_loss(logits.float().flatten(0, 1), words.flatten()).view(words.shape)
        return losses * hidden


@part("objectives")
class HiddenWords(_Worded):
    """Cross entropy of the visual words of hidden patches, counted by patches (Bao et al., BEiT, 2022, equation 3)."""

    def __init__(self, *, patch: int = 16, words: int = 8192, share: float = 0.4) -> None:
        super().__init__(patch=patch, words=words, share=share)

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the hidden patches."""
        words = self.named(batch["inputs"])
        hidden = self.hide(batch, words.shape)
        losses = self.missed(answer(model, {**batch, "hidden": hidden}), words, hidden)
        return Loss(losses.sum(), hidden.sum())


@part("objectives")
class ClassesAndWords(_Worded):
    """Cross entropy of the class, and `weight` times that of the visual words of hidden patches, the mean of a picture's.

    Chen et al., Improve Supervised Representation Learning with Masked Image Modeling, 2023, section 3. The model's head
    notes the answer for the patches as 'words' (`heads.WordsBeside`).
    """

    def __init__(
        self, *, patch: int = 16, words: int = 1024, share: float = 0.5, weight: float = 1.0, smoothing: float = 0.0
    ) -> None:
        super().__init__(patch=patch, words=words, share=share)
        self.weight, self.smoothing = weight, smoothing

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        labels, words = batch[LABELS], self.named(batch["inputs"])
        hidden = self.hide(batch, words.shape)
        notes: dict[str, Tensor] = {}
        logits = answer(model, {**batch, "hidden": hidden, "context": Context(notes=notes)}).float()
        check_classes(labels, logits.shape[-1])
        if "words" not in notes:
            raise DoesNotFit("the model's head says nothing of hidden patches; give it heads.WordsBeside", "head")
        missed = self.missed(notes["words"], words, hidden).sum(1) / hidden.sum(1).clamp(min=1)
        losses = class_loss(logits, labels, self.smoothing) + self.weight * missed
        return Loss(losses.sum(), torch.tensor(len(labels), device=labels.device))


@part("objectives")
class Places(Objective):
    """Cross entropy of where each patch stood, which the model is not told (Zhai et al., MP3, 2022, section 3.1).

    The patches of the highest `noise`, a `share` of them, are asked but not seen by any other. Counted by patches.
    """

    def __init__(self, *, share: float = 0.75) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"a share of unseen patches is at least 0 and below 1; given {share}")
        self.share = share

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the patches."""
        count = int(model.head.outputs)  # type: ignore[union-attr, arg-type]
        batch = dict(batch)
        noise = batch.pop("noise", None)
        if noise is None:
            noise = torch.rand(len(batch["inputs"]), count, device=batch["inputs"].device)
        seen = noise.argsort(1).argsort(1) < max(1, int(count * (1 - self.share)))
        logits = answer(model, {**batch, "seen": seen}).float()
        places = torch.arange(count, device=logits.device).expand(len(logits), -1)
        return Loss(class_loss(logits.flatten(0, 1), places.flatten()).sum(), torch.tensor(places.numel()))
