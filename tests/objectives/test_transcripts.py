"""CTC against the sum over all ways to spell, and what refuses it."""

from __future__ import annotations

import itertools

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput
from everyformer.generation import transcribe
from everyformer.objectives import CTC
from everyformer.tokens import Tokens

LABELS = torch.tensor([[1, 2, -100], [2, 2, -100], [1, -100, -100]])


class Frames(torch.nn.Module):
    """Five frames of three classes, of which the last sample has three."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Sequential(Values(), torch.nn.Linear(6, 3, dtype=torch.float64))

    def features(self, inputs):
        return Tokens(inputs, mask=torch.arange(5) < torch.tensor([5, 5, 3])[:, None])


class Values(torch.nn.Module):
    def forward(self, tokens):
        return tokens.values


def spelled(path):
    """A path without repeats and blanks."""
    return [each for each, _ in itertools.groupby(path) if each]


def test_ctc_is_the_sum_over_all_paths_that_spell_the_labels():
    torch.manual_seed(0)
    model, inputs = Frames(), torch.randn(3, 5, 6, dtype=torch.float64)
    chances = model.head(model.features(inputs)).softmax(-1)
    wanted = torch.tensor(0.0, dtype=torch.float64)
    for row, length in enumerate((5, 5, 3)):
        labels = [each for each in LABELS[row].tolist() if each != -100]
        paths = [path for path in itertools.product(range(3), repeat=length) if spelled(path) == labels]
        wanted -= torch.stack([chances[row, range(length), path].prod() for path in paths]).sum().log()
    loss = CTC()(model, {"inputs": inputs, "labels": LABELS})
    torch.testing.assert_close(loss.total.double(), wanted, rtol=1e-5, atol=1e-5)
    assert int(loss.count) == 5
    ours, theirs = (torch.autograd.grad(each, model.head[1].weight)[0] for each in (loss.total, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_likeliest_classes_are_read_without_repeats_blanks_and_padding():
    model = Frames()
    model.head = Values()
    classes = torch.tensor([[1, 1, 0, 1, 2], [0, 2, 2, 2, 0], [0, 1, 1, 2, 2]])
    assert transcribe(model, torch.nn.functional.one_hot(classes, 3).double()) == [[1, 1, 2], [2], [1]]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[1, 2], [1, 0], [1, 2]], "class 0, which is the blank"),
        ([[1, 2, 1], [1, 2, 1], [1, 1, 2]], "sample 2 has 3 frames, and its transcript takes 4"),
        ([[1, 3], [1, 2], [1, 2]], "3"),
    ],
)
def test_what_no_path_spells_is_refused(labels, said):
    with pytest.raises(BadInput, match=said):
        CTC()(Frames(), {"inputs": torch.randn(3, 5, 6, dtype=torch.float64), "labels": torch.tensor(labels)})


def test_a_system_learns_from_transcripts():
    model = ef.design("i3d", mels=12, frames=20, width=16, hidden=16, depth=1, heads=2)
    model = model.set("head", ef.spec(ef.heads.TokenHead, vocabulary=4)).build(seed=0)
    batch = {"inputs": torch.randn(2, 20, 12), "labels": torch.tensor([[1, 2, 3], [2, 2, -100]])}
    CTC()(model, batch).total.backward()
    assert model.head.project.weight.grad.abs().sum() > 0
