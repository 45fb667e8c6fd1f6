"""Changes of pictures that move what an encoder says of them."""

from __future__ import annotations

import pytest
import torch

from everyformer.errors import BadInput
from everyformer.interpret import gray_box
from support.parts import close
from support.systems import model_of, tiny


@pytest.fixture
def seen():
    torch.manual_seed(0)
    model = model_of(tiny("git"))

    def encode(pictures):
        return model.prepare(pictures).memory["encoder"].values

    return model, encode, torch.rand(2, *model.example(1)["inputs"].shape[1:])


def literal(encode, picture, start, epsilon, target, weight, steps, lr):
    """One picture at a time, Adam by hand (Kingma and Ba, 2015, algorithm 1), the loss as the paper says it."""
    wanted = encode(picture if target is None else target).detach().flatten()
    change, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        change = change.detach().requires_grad_()
        said = encode((picture + change).clamp(0, 1)).flatten()
        alike = said @ wanted / (said.norm() * wanted.norm())
        loss = (alike if target is None else -alike) + weight * change.square().sum().sqrt()
        (gradient,) = torch.autograd.grad(loss, change)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        moved = change - lr * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        change = moved.detach().clamp(-epsilon, epsilon)
    return (picture + change).clamp(0, 1)


@pytest.mark.parametrize("aimed", [False, True])
def test_it_is_adam_on_what_is_said(seen, aimed):
    _, encode, pictures = seen
    target = pictures.flip(0) if aimed else None
    options = {"epsilon": 0.1, "weight": 0.02, "steps": 4, "lr": 0.03}
    found = gray_box(encode, pictures, target=target, **options, generator=torch.Generator().manual_seed(1))
    start = (torch.rand(pictures.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1) * 0.1
    for row in range(2):
        one = literal(
            encode, pictures[row : row + 1], start[row : row + 1], target=target[row : row + 1] if aimed else None, **options
        )  # fmt: skip
        close(found[row : row + 1], one, 1e-4)


def test_changes_stay_small_and_the_decoder_is_never_asked(seen):
    model, encode, pictures = seen
    pictures[0, :, :4] = 0
    options = {"epsilon": 0.05, "steps": 20, "lr": 0.05}
    found = gray_box(encode, pictures, **options, generator=torch.Generator().manual_seed(1))
    assert (found - pictures).abs().max() <= 0.05 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    again = gray_box(encode, pictures, **options, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again, found)


def test_no_change_is_allowed_no_change_is_made(seen):
    _, encode, pictures = seen
    assert torch.equal(gray_box(encode, pictures, epsilon=0.0, steps=2), pictures)


def test_what_is_said_moves_away_or_towards_another(seen):
    _, encode, pictures = seen

    def alike(one, other):
        return torch.cosine_similarity(encode(one).flatten(1), encode(other).flatten(1)).mean()

    with torch.no_grad():
        away = gray_box(encode, pictures, epsilon=0.2, weight=0, steps=30)
        other = pictures.flip(0)
        towards = gray_box(encode, pictures, epsilon=0.2, weight=0, steps=30, target=other)
        noisy = (pictures + 0.2 * torch.rand_like(pictures).sub(0.5).sign()).clamp(0, 1)
        assert alike(away, pictures) < alike(noisy, pictures) < 1
        assert alike(towards, other) > alike(noisy, other)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epsilon": -0.1}, "0 or more"),
        ({"epsilon": 0.1, "between": (0.0, 0.5)}, "between="),
        ({"epsilon": 0.1, "target": torch.zeros(1, 3, 4, 4)}, "one for each"),
    ],
)
def test_what_is_wrong_is_told(seen, options, told):
    _, encode, pictures = seen
    with pytest.raises(BadInput, match=told):
        gray_box(encode, pictures, **options)
