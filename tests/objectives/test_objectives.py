"""Objectives against the equations written out, and their sums over parts of a batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from everyformer import objectives
from everyformer.errors import BadInput, DoesNotFit, EveryformerError, UnknownName


class Linear(nn.Module):
    """Answers each vector or position of its inputs by one linear map."""

    def __init__(self, into: int, given: int = 6) -> None:
        super().__init__()
        self.project = nn.Linear(given, into, dtype=torch.float64)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.project(inputs.flatten(2).mean(-1) if inputs.dim() == 4 else inputs)


def log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(-1, keepdim=True).log()


def smoothed(logits: Tensor, labels: Tensor, epsilon: float) -> float:
    """sum_n -[(1 - e) log p(y_n) + e / V sum_v log p(v)], one at a time."""
    total = 0.0
    for row, label in zip(log_softmax(logits.double()), labels.tolist()):
        if label != -100:
            total -= (1 - epsilon) * float(row[label]) + epsilon / len(row) * float(row.sum())
    return total


def classes_batch() -> dict[str, Tensor]:
    return {"inputs": torch.randn(8, 6, dtype=torch.float64), "labels": torch.randint(0, 5, (8,))}


def tokens_batch() -> dict[str, Tensor]:
    labels = torch.randint(0, 5, (8, 7))
    for row, length in enumerate((7, 1, 3, 7, 2, 5, 6, 4)):
        labels[row, length:] = -100
    return {"inputs": torch.randn(8, 7, 6, dtype=torch.float64), "labels": labels}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification_is_smoothed_cross_entropy(smoothing: float) -> None:
    model, batch = Linear(5), classes_batch()
    loss = objectives.Classification(smoothing=smoothing)(model, batch)
    assert loss.total.item() == pytest.approx(smoothed(model(batch["inputs"]), batch["labels"], smoothing), rel=1e-5)
    assert int(loss.count) == 8


@pytest.mark.parametrize(
    ("objective", "smoothing"),
    [
        (objectives.NextToken(), 0.0),
        (objectives.MaskedToken(), 0.0),
        (objectives.SequenceToSequence(), 0.0),
        (objectives.SequenceToSequence(smoothing=0.1), 0.1),
    ],
)
def test_token_objectives_are_smoothed_cross_entropy_of_labelled_tokens(
    objective: objectives.Objective, smoothing: float
) -> None:
    model, batch = Linear(5), tokens_batch()
    loss = objective(model, batch)
    wanted = smoothed(model(batch["inputs"]).flatten(0, 1), batch["labels"].flatten(), smoothing)
    assert loss.total.item() == pytest.approx(wanted, rel=1e-5)
    assert int(loss.count) == 7 + 1 + 3 + 7 + 2 + 5 + 6 + 4


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
def test_forecast_sums_distances(kind: str) -> None:
    model = Linear(3)
    batch = {"inputs": torch.randn(4, 5, 6, dtype=torch.float64), "labels": 2 * torch.randn(4, 5, 3)}
    loss = objectives.Forecast(kind=kind, delta=0.5)(model, batch)
    wanted = 0.0
    for gap in (model(batch["inputs"]).float() - batch["labels"]).flatten().tolist():
        size = abs(gap)
        huber = 0.5 * size**2 if size < 0.5 else 0.5 * (size - 0.25)
        wanted += {"mse": gap**2, "mae": size, "huber": huber}[kind]
    assert loss.total.item() == pytest.approx(wanted, rel=1e-5)
    assert int(loss.count) == 60


def test_distillation_is_hintons_sum() -> None:
    student, teacher, batch = Linear(5), Linear(5), classes_batch()
    objective = objectives.Distillation(temperature=3.0, share=0.7)
    objective.teach(teacher)
    total = 0.0
    for s, t, y in zip(student(batch["inputs"]), teacher(batch["inputs"]), batch["labels"]):
        p, q = (t / 3).softmax(-1).tolist(), (s / 3).softmax(-1).tolist()
        total += 0.7 * 9 * sum(a * math.log(a / b) for a, b in zip(p, q))
        total -= 0.3 * float(log_softmax(s)[y])
    assert objective(student, batch).total.item() == pytest.approx(total, rel=1e-5)


def test_hard_distillation_takes_the_teachers_decision_for_a_label() -> None:
    student, teacher, batch = Linear(5), Linear(5), classes_batch()
    objective = objectives.HardDistillation()
    objective.teach(teacher)
    logits, said = student(batch["inputs"]), teacher(batch["inputs"]).argmax(-1)
    wanted = 0.5 * smoothed(logits, batch["labels"], 0) + 0.5 * smoothed(logits, said, 0)
    loss = objective(student, batch)
    assert loss.total.item() == pytest.approx(wanted, rel=1e-5)
    loss.total.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert not list(objective.parameters()), "a teacher is neither trained nor saved"


def teacher_objective() -> objectives.Objective:
    objective = objectives.Distillation()
    objective.teach(Linear(5))
    return objective


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: objectives.Classification(smoothing=0.1), classes_batch),
        (objectives.NextToken, tokens_batch),
        (objectives.MaskedToken, tokens_batch),
        (lambda: objectives.SequenceToSequence(smoothing=0.1), tokens_batch),
        (lambda: objectives.Forecast(), lambda: {**tokens_batch(), "labels": torch.randn(8, 7, 5)}),
        (teacher_objective, classes_batch),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 4])
def test_sums_over_parts_of_a_batch_are_those_of_the_whole(make, batch, size: int) -> None:
    objective, model, whole = make(), Linear(5), batch()

    def gradient(step: int) -> tuple[Tensor, float]:
        model.zero_grad()
        count = 0.0
        for start in range(0, 8, step):
            loss = objective(model, {k: v[start : start + step] for k, v in whole.items()})
            loss.total.backward()
            count += float(loss.count)
        return model.project.weight.grad / count, count

    together, parts = gradient(8), gradient(size)
    assert together[1] == parts[1]
    torch.testing.assert_close(parts[0], together[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixing_blends_pictures_and_their_labels_in_the_same_share(options: dict[str, float]) -> None:
    objective, model = objectives.Classification(smoothing=0.1, **options), Linear(5, given=3)
    batch = {"inputs": torch.randn(8, 3, 6, 6, dtype=torch.float64), "labels": torch.randint(0, 5, (8,))}
    for seed in range(6):
        torch.manual_seed(seed)
        loss = objective(model, batch)
        torch.manual_seed(seed)
        inputs, other, share = objective.blend(batch["inputs"])
        own = [smoothed(model(inputs)[i : i + 1], batch["labels"][i : i + 1], 0.1) for i in range(8)]
        others = [smoothed(model(inputs)[i : i + 1], batch["labels"][other][i : i + 1], 0.1) for i in range(8)]
        assert loss.total.item() == pytest.approx(share * sum(own) + (1 - share) * sum(others), rel=1e-5)
        assert 0 <= share <= 1
        if "mixup" not in options:
            kept = (inputs == batch["inputs"]).double().flatten(1).mean(1)
            moved = other != torch.arange(8)
            torch.testing.assert_close(kept[moved], torch.full_like(kept[moved], share))


def test_mixing_rests_outside_training() -> None:
    objective, model = objectives.Classification(mixup=1.0).eval(), Linear(5)
    batch = classes_batch()
    assert objective(model, batch).total.item() == pytest.approx(
        smoothed(model(batch["inputs"]), batch["labels"], 0), rel=1e-5
    )


def test_what_a_user_can_get_wrong_is_answered() -> None:
    model, batch = Linear(5), classes_batch()
    with pytest.raises(BadInput, match=r"label 5, and the model answers with 5 classes \(0 to 4\)"):
        objectives.Classification()(model, {**batch, "labels": torch.full((8,), 5)})
    with pytest.raises(BadInput, match="label -1"):
        objectives.NextToken()(model, {**tokens_batch(), "labels": torch.full((8, 7), -1)})
    with pytest.raises(BadInput, match="mixup and cutmix blend pictures"):
        objectives.Classification(mixup=1.0)(model, {**batch, "inputs": torch.ones(8, 6).long()})
    with pytest.raises(UnknownName, match="did you mean 'huber'"):
        objectives.Forecast(kind="hubert")
    with pytest.raises(BadInput, match=r"forecasts \(8, 5\) and the data has \(8, 3\)"):
        objectives.Forecast()(model, {**batch, "labels": torch.zeros(8, 3)})
    with pytest.raises(EveryformerError, match="has no teacher"):
        objectives.Distillation()(model, batch)
    objective = objectives.Distillation()
    objective.teach(Linear(4))
    with pytest.raises(DoesNotFit, match=r"teacher answers \(8, 4\)"):
        objective(model, batch)


def test_a_batch_in_which_nothing_is_hidden_costs_nothing() -> None:
    model, batch = Linear(5), tokens_batch()
    loss = objectives.MaskedToken()(model, {**batch, "labels": torch.full((8, 7), -100)})
    loss.total.backward()
    assert loss.total.item() == 0
    assert int(loss.count) == 0
    assert not model.project.weight.grad.any()
