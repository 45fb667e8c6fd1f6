"""State spaces of two axes, cell by cell, and their limits."""

import pytest
import torch

import everyformer as ef
from everyformer.grids import as_map, as_tokens
from everyformer.tokens import Tokens
from support.parity import perturb
from support.parts import close


def made(**options):
    torch.manual_seed(0)
    return perturb(ef.spec(ef.mixers.PlaneStateSpace, state=3, **options).build(8))


def answers(part, rows, columns):
    """The kernel of one channel and corner after the other: the authors' recurrence, cell by cell."""
    a1, a2, a3, a4 = part.move.sigmoid()
    first_h, first_v = part.enter.sigmoid()
    h, v = {}, {}
    for i in range(rows):
        for j in range(columns):
            left, above = (h.get((i, j - 1)), v.get((i, j - 1))), (h.get((i - 1, j)), v.get((i - 1, j)))
            for states, (one, other), (a, b), first in ((h, left, (a1, a2), first_h), (v, above, (a3, a4), first_v)):
                terms = [x * y for x, y in ((a, one), (b, other)) if y is not None]
                if terms:
                    states[i, j] = sum(terms) / len(terms)
                if (i, j) == (0, 0):
                    states[i, j] = first
    many, zero = len(a1), torch.zeros_like(a1)
    kernel = torch.zeros(part.read.shape[1], rows, columns)
    for c in range(part.read.shape[1]):
        for i in range(rows):
            for j in range(columns):
                seen = part.read[0, c] @ h.get((i, j), zero)[c % many] + part.read[1, c] @ v.get((i, j), zero)[c % many]
                kernel[c, i, j] = seen / 3**0.5 * (2 if (i == 0) != (j == 0) else 1)
    return kernel


@pytest.mark.parametrize("corners", [2, 4])
def test_it_is_the_recurrence_and_the_convolution_cell_by_cell(corners):
    part = made(corners=corners)
    kernel = answers(part, 4, 5)
    close(part.kernel(4, 5), kernel)
    cells = torch.randn(2, 8, 4, 5)
    expected = part.skip[:, None, None] * cells
    for flip, each in zip(part.flips, kernel.chunk(corners)):
        given, out = cells.flip(flip), torch.zeros_like(cells)
        for i in range(4):
            for j in range(5):
                for p in range(i + 1):
                    for q in range(j + 1):
                        out[:, :, i, j] += each[:, i - p, j - q] * given[:, :, p, q]
        expected = expected + out.flip(flip)
    tokens = as_tokens(cells)
    found = part(tokens)
    close(as_map(tokens.update(found)), expected)
    weights = list(part.parameters())
    ours, theirs = (torch.autograd.grad(each.square().sum(), weights) for each in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-5 * (1 + float(b.abs().max())))


def test_axes_that_do_not_meet_are_two_recurrences_of_one_axis():
    part = made()
    with torch.no_grad():
        part.move[1:3] = -100.0
    kernel = part.kernel(4, 5)
    assert kernel[:, 1:, 1:].abs().max() < 1e-12
    assert kernel[:, 0].abs().min() > 0


def test_rows_and_columns_change_places_with_their_weights():
    part, other = made(), made()
    with torch.no_grad():
        other.move.copy_(part.move.flip(0))
        other.enter.copy_(part.enter.flip(0))
        other.read.copy_(part.read.flip(0))
    close(other.kernel(5, 4), part.kernel(4, 5).mT)


def test_leading_tokens_pass_to_the_mixer_after_it():
    part = perturb(
        ef.spec(
            ef.mixers.After,
            first=ef.spec(ef.mixers.PlaneStateSpace, state=3),
            mixer=ef.spec(ef.mixers.Attention, heads=2),
        ).build(8)
    )
    tokens = as_tokens(torch.randn(1, 8, 3, 3))
    led = Tokens(torch.cat((first := torch.randn(1, 1, 8), tokens.values), 1), grid=(3, 3), prefix=1)
    close(part(led), part.mixer(led.update(torch.cat((first, part.first(tokens)), 1))))


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="2 or 4 corners"):
        made(corners=3)
