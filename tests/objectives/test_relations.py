"""Two teachers: nothing to learn from oneself, the losses written out, and what does not count."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import everyformer as ef
from everyformer.objectives import HybridDistillation, hybrid_distillation
from everyformer.objectives.relations import last_attention, last_tokens
from support.agreement import close, perturb

SHAPE = {"classes": 3, "image": 8, "patch": 4, "depth": 2, "ratio": 2}
BATCH = {"inputs": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


def vit(width: int = 16, heads: int = 2, seed: int = 0) -> Any:
    return perturb(ef.create("vit", width=width, heads=heads, seed=seed, **SHAPE).eval(), seed=seed, std=0.3)


def student(of: Any, outputs: int) -> Any:
    """A copy that says `outputs` numbers for each patch."""
    return ef.swap(copy.deepcopy(of), "head", ef.spec(ef.heads.CellHead, outputs=outputs), seed=0).requires_grad_(True)


def plain(x: Tensor) -> Tensor:
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()


def test_there_is_nothing_to_learn_from_oneself() -> None:
    """Of the relations: no loss and no gradient, whatever the heads."""
    teacher = vit()
    made = student(teacher, 24)
    for heads in (1, 2, 4):
        with last_attention(teacher) as theirs:
            teacher(BATCH["inputs"])
        with last_attention(made) as ours:
            made(BATCH["inputs"])
        loss = HybridDistillation(heads=heads).related(ours, theirs, torch.ones(3, 4, dtype=torch.bool)).sum()
        assert loss.abs() < 1e-6
        grads = torch.autograd.grad(loss, list(made.backbone.parameters()), allow_unused=True)
        assert max(float(each.abs().max()) for each in grads if each is not None) < 1e-5


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_the_losses_are_as_written(keep: float) -> None:
    """Token by token, teachers of other widths and heads; patches that are most like the others do not count."""
    features, relations, made = vit(24, 3, 1), vit(32, 4, 2), student(vit(16, 2, 3), 24)
    objective = hybrid_distillation(features, relations, alpha=0.7, heads=4, keep=keep)
    found = objective(made, {**BATCH, "labels": torch.zeros(3)})
    wanted = torch.tensor(0.0)
    said, told = made(BATCH["inputs"]), features.features(BATCH["inputs"]).values[:, 1:]
    parts = []
    for model in (relations, made):
        mixer, inputs = model.backbone.blocks[1].mixer, []
        handle = mixer.qkv.register_forward_hook(lambda _, __, out, inputs=inputs: inputs.append(out))
        model(BATCH["inputs"])
        handle.remove()
        parts.append([each[:, 1:] for each in inputs[0].chunk(3, -1)])
    for b in range(3):
        like = [
            float(torch.stack([cosine_similarity(told[b, i], told[b, j], dim=0) for j in range(4)]).mean())
            for i in range(4)
        ]
        kept = sorted(range(4), key=like.__getitem__)[: round(4 * keep)]
        for i in kept:
            off = (said[b, i] - plain(told[b, i])).abs()
            wanted = wanted + torch.where(off < 1, off**2 / 2, off - 0.5).mean() / len(kept)
            for one, other in ((0, 1), (2, 2)):
                for h in range(4):
                    rows = []
                    for each in parts:
                        x, y = (each[k][b].chunk(4, -1)[h] for k in (one, other))
                        rows.append((torch.stack([x[i] @ y[j] for j in kept]) / x.shape[-1] ** 0.5).softmax(0))
                    wanted = wanted + 0.7 * (rows[0] * (rows[0] / rows[1]).log()).sum() / 4 / len(kept)
    close(found.total, wanted)
    assert int(found.count) == 3
    found.total.backward()
    assert not any(each.requires_grad for each in (*features.parameters(), *relations.parameters()))
    assert made.backbone.blocks[0].mixer.qkv.weight.grad.abs().sum() > 0


def test_patches_that_a_student_drops_are_in_no_loss() -> None:
    """Two of four, the first at the start and the other behind the first block: the loss of two patches with those teachers."""
    features, relations, whole = vit(24, 3, 1), vit(32, 4, 2), student(vit(16, 2, 3), 24)
    design = ef.designs.design_of(whole)
    made = whole
    for path in ("backbone.blocks.1", "backbone.blocks.0"):
        made = ef.insert(made, path, ef.spec(ef.reduction.Redundant, remove=1))
    objective = hybrid_distillation(features, relations, alpha=0.7, heads=4)
    with last_tokens(made) as ends, last_attention(made) as ours:
        said = made(BATCH["inputs"])
    stays = ends[0].origin[:, -4:] >= 0
    assert stays.sum(1).tolist() == [2, 2, 2]
    told = features.features(BATCH["inputs"]).values[:, 1:]
    with last_attention(relations) as theirs:
        relations.features(BATCH["inputs"])
    wanted = torch.tensor(0.0)
    for b in range(3):
        places = stays[b].nonzero()[:, 0].tolist()
        off = torch.stack([(said[b, k] - plain(told[b, i])).abs() for k, i in enumerate(places)])
        wanted = wanted + torch.where(off < 1, off**2 / 2, off - 0.5).mean()
        few = {name: each[b : b + 1, :, -2:] for name, each in ours.items()}
        other = {name: each[b : b + 1, :, [1 + i for i in places]] for name, each in theirs.items()}
        wanted = wanted + 0.7 * objective.related(few, other, torch.ones(1, 2, dtype=torch.bool)).sum()
    close(objective(made, BATCH).total, wanted)
    plainly = ef.edits.remove(ef.edits.remove(made, "backbone.blocks.2"), "backbone.blocks.0")
    assert ef.designs.design_of(plainly) == design


def test_the_most_redundant_patch_goes_first() -> None:
    values = torch.tensor([[[1.0, 0, 0], [1, 0.1, 0], [0, 1, 0], [1, 0, 0.1], [0, 0, 1]]])
    tokens = ef.tokens.Tokens(values, prefix=1)
    kept = [ef.reduction.Redundant(3, remove=n)(tokens).origin[0].tolist() for n in (1, 2)]
    unit = torch.nn.functional.normalize(values[0, 1:], dim=-1)
    first = int((unit @ unit.T).mean(1).argmax())
    assert kept[0].index(-1) == 1 + first
    assert sum(each < 0 for each in kept[1]) == 2


def test_what_does_not_fit_is_told() -> None:
    late = ef.insert(student(vit(), 24), "backbone.blocks.2", ef.spec(ef.reduction.Redundant, remove=1))
    with pytest.raises(ef.DoesNotFit, match="after its last attention"):
        hybrid_distillation(vit(24, 3), vit())(late, BATCH)
    mixed = ef.insert(student(vit(), 24), "backbone.blocks.1", ef.spec(ef.reduction.TokenLearner, tokens=2))
    with pytest.raises(ef.DoesNotFit, match="whose tokens are mixed"):
        hybrid_distillation(vit(24, 3), vit())(mixed, BATCH)
    with pytest.raises(ef.BadInput, match="heads is at least 1, keep above 0"):
        HybridDistillation(keep=0.0)
    with pytest.raises(ef.EveryformerError, match="has no teachers"):
        HybridDistillation()(vit(), BATCH)
    with pytest.raises(ef.DoesNotFit, match=r"features \(3, 4, 24\), and the student says \(3, 3\)"):
        hybrid_distillation(vit(24, 3), vit())(vit(), BATCH)
    with pytest.raises(ef.DoesNotFit, match="a width of 16 is not cut into 5 heads"):
        hybrid_distillation(vit(24, 3), vit(), heads=5)(student(vit(), 24), BATCH)
    mixer = ef.create("mlp-mixer", classes=3, image=8, patch=4, width=16, depth=1)
    with pytest.raises(ef.DoesNotFit, match="no attention in the Model shows its queries"):
        hybrid_distillation(vit(), mixer)(student(vit(), 16), BATCH)
