"""Distillation from two teachers: how tokens relate, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.contracts import Mixer
from everyformer.errors import BadInput, DoesNotFit, EveryformerError
from everyformer.models import Model
from everyformer.objectives.base import Loss, Objective, answer
from everyformer.reduction.pruning import alike
from everyformer.registry import method, part
from everyformer.tokens import Tokens, spread

NAMES = ("queries", "keys", "values")


@part("objectives")
class HybridDistillation(Objective):
    """Features of one teacher, and `alpha` times the relations of tokens of another (Shi et al., 2023).

    The student's answer for each patch, a linear map of it (`heads.CellHead`), against the features of the first teacher
    without mean and scale: smooth L1. The last attention of student and second teacher, cut into `heads` of equal number:
    KL of softmax(Q K^T / sqrt(d)) and of softmax(V V^T / sqrt(d)), mean over heads and tokens. All are means over a sample.

    Only the patches count that a student with prunings in it has left at its end: `reduction.Redundant` after some of its blocks
    drops them step by step. Of these the share `keep` counts, those least like all others to the first teacher.
    """

    def __init__(self, *, alpha: float = 1.0, heads: int = 4, keep: float = 1.0) -> None:
        super().__init__()
        if heads < 1 or not 0 < keep <= 1 or alpha < 0:
            raise BadInput(
                f"heads is at least 1, keep above 0 and at most 1, alpha at least 0; given {heads}, {keep}, {alpha}"
            )
        self.alpha, self.heads, self.keep = alpha, heads, keep
        self._teachers: list[Model] = []

    def teach(self, features: Model, relations: Model) -> None:
        """Set the teachers."""
        self._teachers = [each.eval().requires_grad_(False) for each in (features, relations)]  # type: ignore[misc]

    def forward(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss summed over the samples."""
        if not self._teachers:
            raise EveryformerError("HybridDistillation has no teachers; call objective.teach(features, relations)")
        features, relations = self._teachers
        with torch.no_grad():
            tokens = features.features(batch["inputs"])
            wanted = tokens.values[:, tokens.prefix :].float()
            with last_attention(relations) as theirs:
                relations.features(batch["inputs"])
        with last_attention(model) as ours, last_tokens(model) as ends:
            said = answer(model, {"inputs": batch["inputs"]})
        stays = left(ends[0], wanted.shape[:2])
        if said.ndim != 3 or said.shape[1:] != (int(stays[0].sum()), wanted.shape[2]):
            raise DoesNotFit(
                f"the teacher has features {tuple(wanted.shape)}, and the student says {tuple(said.shape)}", "head"
            )
        if ours["queries"].shape[2] != ends[0].count:
            raise DoesNotFit("a student drops tokens after its last attention; drop them before", "backbone")
        kept, said = unlike(wanted, self.keep, stays), spread(said.flatten(0, 1)[None], stays)
        ours = {name: _spread_patches(each, stays) for name, each in ours.items()}
        near = F.smooth_l1_loss(said.float(), F.layer_norm(wanted, wanted.shape[-1:]), reduction="none").mean(-1)
        losses = (near * kept).sum(1) / kept.sum(1) + self.alpha * self.related(ours, theirs, kept)
        return Loss(losses.sum(), torch.tensor(len(losses), device=losses.device))

    def related(
        self, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], kept: Bool[Tensor, "B N"]
    ) -> Float[Tensor, " B"]:
        """The mean KL of both relations among the patches that count."""
        total = torch.zeros(len(kept), device=kept.device)
        for one, other in (("queries", "keys"), ("values", "values")):
            told, said = (self.relation(each[one], each[other], kept) for each in (theirs, ours))
            rows = (told.exp() * (told - said)).masked_fill(~kept[:, None, None], 0).sum(-1).mean(1)
            total = total + (rows * kept).sum(1) / kept.sum(1)
        return total

    def relation(
        self, one: Float[Tensor, "B H M K"], other: Float[Tensor, "B H M K"], kept: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B h N N"]:
        """log softmax(x y^T / sqrt(d)) of the patches, the heads cut anew."""
        both = []
        for each in (one, other):
            joined = each.transpose(1, 2).flatten(2)[:, -kept.shape[1] :]
            if joined.shape[-1] % self.heads:
                raise DoesNotFit(f"a width of {joined.shape[-1]} is not cut into {self.heads} heads; give other heads")
            both.append(joined.unflatten(-1, (self.heads, -1)).transpose(1, 2).float())
        scores = both[0] @ both[1].mT * both[0].shape[-1] ** -0.5
        return scores.masked_fill(~kept[:, None, None], -1e9).log_softmax(-1)


@contextmanager
def last_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Queries, keys and values of the last attention of a pass, with as many heads of each."""
    found: dict[str, Tensor] = {}
    mixers = [each for each in model.modules() if isinstance(each, Mixer) and hasattr(each, "queries")]
    if not mixers:
        raise DoesNotFit(f"no attention in the {type(model).__name__} shows its queries and keys", "backbone")

    def keep(name: str, value: Tensor) -> None:
        heads = mixers[-1].heads // value.shape[1]  # type: ignore[operator]
        found[name] = value.repeat_interleave(heads, 1)

    handles = [
        getattr(mixers[-1], name).register_forward_hook(lambda _, __, value, name=name: keep(name, value))
        for name in NAMES
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def last_tokens(model: nn.Module) -> Iterator[list[Tokens]]:
    """What the backbone of a pass gave."""
    found: list[Tokens] = []
    body = next(each for each in model.modules() if isinstance(each, Model)).backbone
    handle = body.register_forward_hook(lambda _, __, tokens: found.append(tokens))
    try:
        yield found
    finally:
        handle.remove()


def left(tokens: Tokens, shape: tuple[int, ...]) -> Bool[Tensor, "B N"]:
    """Which of the patches are still there, of so many."""
    if tokens.origin is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.values.device)
    if tokens.origin.is_floating_point():
        raise DoesNotFit(
            "a student whose tokens are mixed has none for a patch of its own; use reductions that prune", "backbone"
        )
    return tokens.origin[:, -shape[1] :] >= 0


def _spread_patches(heads: Float[Tensor, "B H M K"], stays: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N K"]:
    """What is known of the patches that are left, where all stood."""
    count = int(stays[0].sum())
    patches = heads.transpose(1, 2)[:, -count:]
    return spread(patches.flatten(0, 1)[None], stays).transpose(1, 2)


def unlike(features: Float[Tensor, "B N D"], keep: float, among: Bool[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
    """The share of the tokens among which they are that are least like all of them."""
    like = alike(features, among).masked_fill(~among, torch.inf)
    count = max(1, round(keep * int(among[0].sum())))
    return torch.zeros_like(among).scatter_(1, like.topk(count, largest=False).indices, True)


@method(
    "hybrid-distillation",
    title="Hybrid Distillation: Connecting Masked Autoencoders with Contrastive Learners",
    authors="Shi et al.",
    year=2023,
    arxiv="2306.15876",
    idea="One student of two teachers: how tokens relate in a masked autoencoder, and what they are to a discriminative model.",
)
def hybrid_distillation(
    features: Model, relations: Model, *, alpha: float = 1.0, heads: int = 4, keep: float = 1.0
) -> HybridDistillation:
    """The objective, taught: see `HybridDistillation`."""
    objective = HybridDistillation(alpha=alpha, heads=heads, keep=keep)
    objective.teach(features, relations)
    return objective
