"""Sounds of which stretches are hidden: what came in there is to be told from what came in elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.embeddings import MaskedWaves
from everyformer.errors import DoesNotFit
from everyformer.objectives.base import Loss, Objective, noted
from everyformer.registry import part
from everyformer.tokens import take


@part("objectives")
class HiddenCodes(Objective):
    """-log(exp(cos(c, q) / t) / sum exp(cos(c, q') / t)) of what is said of each hidden frame and its code q, among the
    codes of `negatives` other hidden frames of the same sound; and `weight` times the share of the codes that are not used,
    (GV - sum exp(H(p))) / GV, p being the mean of how likely they are (Baevski et al., wav2vec 2.0, 2020, section 3.2,
    equations 2 to 4). Counted by hidden frames.

    Of all frames a `share`, drawn, begin stretches of `length` that are hidden (section 3.1). A batch may bring `hidden`
    (B, N), and `negatives` (B, N, K), the frames whose codes are compared.
    """

    def __init__(
        self,
        *,
        negatives: int = 100,
        temperature: float = 0.1,
        weight: float = 0.1,
        share: float = 0.065,
        length: int = 10,
    ) -> None:
        super().__init__()
        if not 0 < share <= 1:
            raise ValueError(f"a share of frames is above 0 and at most 1; given {share}")
        self.negatives, self.temperature, self.weight = negatives, temperature, weight
        self.share, self.length = share, length

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the hidden frames."""
        batch = dict(batch)
        others = batch.pop("negatives", None)
        if "hidden" not in batch:
            batch["hidden"] = self.hide(model, batch)
        hidden = batch["hidden"]
        otherwise = "the model's head says nothing of codes; give it heads.CodePredictor"
        said, notes = noted(model, batch, "codes", otherwise=otherwise)
        others = elsewhere(hidden, self.negatives) if others is None else others
        alike = told_apart(said.float(), notes["codes"].float(), notes["chosen"], hidden, others)
        losses = -(alike / self.temperature).log_softmax(-1)[..., 0]
        likely = (notes["likely"].float() * hidden[..., None, None]).sum((0, 1)) / hidden.sum().clamp(min=1)
        used = torch.special.entr(likely).sum(-1).exp().sum()
        count = hidden.sum()
        return Loss((losses * hidden).sum() + self.weight * count * (1 - used / likely.numel()), count)

    def hide(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Bool[Tensor, "B N"]:
        """Stretches of the real frames."""
        embedding = getattr(model, "embedding", None)
        if not isinstance(embedding, MaskedWaves):
            raise DoesNotFit(
                f"HiddenCodes hides frames of MaskedWaves; here is {type(embedding).__name__}", "embedding"
            )
        real = embedding.real(batch.get("mask", torch.ones_like(batch["inputs"], dtype=torch.bool)))
        order = torch.rand(real.shape, device=real.device).masked_fill(~real, 2.0).argsort(1).argsort(1)
        begins = (order < (self.share * real.sum(1, keepdim=True)).ceil()).float()
        return (F.max_pool1d(F.pad(begins, (self.length - 1, 0))[:, None], self.length, 1)[:, 0] > 0) & real


def elsewhere(hidden: Bool[Tensor, "B N"], count: int) -> Int[Tensor, "B N K"]:
    """For each hidden frame `count` others of the hidden frames of its sound, each as likely as any other."""
    rank = hidden.cumsum(1)[..., None] - 1
    choices = (hidden.sum(1) - 1).clamp(min=1)[:, None, None]
    drawn = (torch.rand(*hidden.shape, count, device=hidden.device) * choices).long()
    drawn = (drawn + (drawn >= rank)).clamp(max=hidden.shape[1] - 1)
    frames = (~hidden).argsort(dim=1, stable=True)
    return take(frames, drawn.flatten(1)).view_as(drawn)


def told_apart(
    said: Float[Tensor, "B N E"],
    codes: Float[Tensor, "B N E"],
    chosen: Float[Tensor, "B N G V"],
    hidden: Bool[Tensor, "B N"],
    others: Int[Tensor, "B N K"],
) -> Float[Tensor, "B N L"]:
    """The cosine of what is said of each frame and its code, then those of the `others`: -inf for one that has the same
    code, or is not hidden.
    """
    near = F.normalize(said, dim=-1) @ F.normalize(codes, dim=-1).mT
    named = chosen.argmax(-1)
    compared = (named[:, :, None] != named[:, None]).any(-1) & hidden[:, None]
    wrong = near.masked_fill(~compared, -torch.inf).gather(2, others)
    return torch.cat((near.diagonal(dim1=1, dim2=2)[..., None], wrong), -1)
