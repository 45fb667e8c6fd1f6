"""Promise 17: pictures of any size, also mixed in one batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import everyformer as ef
from everyformer.data import find_task
from everyformer.errors import BadInput
from everyformer.models.mixed import by_size
from everyformer.registry import find_system
from support.systems import model_of, systems, tiny
from support.tiny_data import mixed_pictures

SIZES = ((16, 16), (35, 32), (24, 48), (16, 16))
BY_PATCH = ("mp3", "vit-mae")
"""Systems that answer for each patch, and so with as many answers as a picture has."""
MULTIPLES = ("hiera", "turbovit")
"""Systems that take multiples of one side alone, and say so."""
ANY_SIZE = [
    name
    for name in systems()
    if "image-classification" in find_system(name).tasks and name not in (*BY_PATCH, *MULTIPLES)
]


def mixed(channels: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Pictures of several sizes, alone and in one batch with something in the padding, and their sizes."""
    generator = torch.Generator().manual_seed(0)
    alone = [torch.randn(1, channels, *size, generator=generator) for size in SIZES]
    together = torch.full((len(alone), channels, 35, 48), 7.0)
    for row, each in enumerate(alone):
        together[row, :, : each.shape[2], : each.shape[3]] = each
    return alone, together, torch.tensor(SIZES)


@pytest.mark.parametrize("name", ANY_SIZE)
@torch.no_grad()
def test_a_batch_of_mixed_sizes_is_one_picture_at_a_time(name: str) -> None:
    model = model_of(tiny(name))
    alone, together, sizes = mixed(model.example()["inputs"].shape[1])
    expected = torch.cat([model(each) for each in alone])
    torch.testing.assert_close(model(together, sizes=sizes), expected, atol=1e-5, rtol=0)


def test_gradients_are_those_of_one_picture_at_a_time() -> None:
    model = model_of(tiny("vit"))
    alone, together, sizes = mixed(3)
    found = torch.autograd.grad(model(together, sizes=sizes).square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(sum(model(each).square().sum() for each in alone), list(model.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_mixed_is_refused() -> None:
    _, together, sizes = mixed(3)
    with pytest.raises(BadInput, match=r"\(B, 2\), from 1 to those of the padded batch"):
        model_of(tiny("vit"))(together, sizes=sizes + 20)
    with pytest.raises(BadInput, match="answers to pictures of several sizes are of the shapes"):
        by_size(lambda inputs: inputs.flatten(1), sizes, together)
    with pytest.raises(BadInput, match="a context belongs to pictures of one size"):
        model_of(tiny("vit"))(together, sizes=sizes, context=ef.Context())
    objective = ef.objectives.Classification(mixup=0.2).train()
    with pytest.raises(BadInput, match=r"blend pictures of one size; .* data.fit=crop"):
        objective(model_of(tiny("vit")), {"inputs": together, "sizes": sizes, "labels": torch.zeros(4).long()})


def test_pictures_keep_their_size_and_their_augmentation(tmp_path: Path) -> None:
    task = find_task("image-classification").open(path=str(mixed_pictures(tmp_path)), fit="keep", flip=True)
    assert task.facts["image"] in range(9, 14)
    batch = task.batch("train", range(4), train=True, seed=3)
    for row, (height, width) in enumerate(batch["sizes"].tolist()):
        single = task.batch("train", [row], train=True, seed=3)
        assert single["inputs"].shape[2:] == (height, width)
        assert "sizes" not in single
        torch.testing.assert_close(batch["inputs"][row, :, :height, :width], single["inputs"][0], atol=0, rtol=0)
