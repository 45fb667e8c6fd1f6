"""`shift-equivariant-vit`: a rolled picture gives the same answer, and what cuts a map moves along with it."""

import pytest
import torch

import everyformer as ef
from everyformer.grids import anchor, as_map, as_tokens, rolled
from support.parity import perturb
from support.parts import close
from support.systems import model_of, tiny


def shifted(picture):
    """The picture rolled by every number of rows and columns."""
    rows, columns = picture.shape[1:]
    return torch.stack([picture.roll((y, x), (1, 2)) for y in range(rows) for x in range(columns)])


def test_the_anchor_is_where_the_strongest_part_begins():
    cells = torch.randn(3, 2, 6, 9)
    for sample, (row, column) in zip(cells, anchor(cells, 3).tolist()):
        norms = {(i, j): sample[:, i::3, j::3].norm() for i in range(3) for j in range(3)}
        assert max(norms, key=norms.get) == (row, column)
    by = torch.tensor([[1, 2], [0, 0], [-4, 5]])
    expected = torch.stack([each.roll(tuple(move), (1, 2)) for each, move in zip(cells, by.tolist())])
    close(rolled(cells, by), expected, 0.0)
    brought = rolled(cells, -anchor(cells, 3))
    assert anchor(brought, 3).abs().sum() == 0


def test_every_shift_gives_the_same_answer():
    model = model_of(tiny("shift-equivariant-vit"))
    pictures = shifted(torch.randn(3, 16, 16))
    with torch.no_grad():
        answers = model(pictures)
    close(answers, answers[:1].expand_as(answers))


@pytest.mark.parametrize(
    ("path", "value"),
    [("embedding", ef.spec(ef.embeddings.Patches, patch=4, image=16)), ("backbone.blocks.1.mixer.padding", "zeros")],
    ids=["anchor", "ends"],
)
def test_without_one_of_its_parts_answers_move(path, value):
    design = tiny("shift-equivariant-vit")
    changed = design.swap(path, value) if path == "embedding" else design.set(path, value)
    with torch.no_grad():
        answers = model_of(changed)(shifted(torch.randn(3, 16, 16)))
    assert (answers - answers[:1]).abs().max() > 1e-3


def test_where_nothing_is_rolled_it_is_cpvt():
    design = tiny("shift-equivariant-vit")
    plain = tiny("cpvt", first=0).set("backbone.blocks.1.mixer.padding", "circular").build()
    ours = model_of(design)
    plain.load_state_dict(ours.state_dict())
    picture = rolled(given := torch.randn(2, 3, 16, 16), -anchor(given, 4))
    close(ours(picture), plain.eval()(picture))


@pytest.mark.parametrize(
    "mixer",
    [
        ef.spec(ef.mixers.Windows, mixer=ef.spec(ef.mixers.Attention, heads=4), size=4),
        ef.spec(ef.mixers.ReducedAttention, heads=4, reduce=ef.spec(ef.backbones.ConvMerging, kernel=4, stride=4)),
    ],
    ids=["windows", "coarser keys"],
)
def test_an_anchored_mixer_moves_along_with_the_map(mixer):
    made = perturb(ef.spec(ef.mixers.Anchored, mixer=mixer, size=4).build(32))
    cells = torch.randn(1, 32, 8, 12)
    alone = as_map(as_tokens(cells).update(made(as_tokens(cells))))
    for shift in ((0, 1), (3, 2), (4, 8), (7, 11)):
        given = as_tokens(cells.roll(shift, (2, 3)))
        close(as_map(given.update(made(given))), alone.roll(shift, (2, 3)))
        moved = made.mixer(given)
        assert shift == (4, 8) or (as_map(given.update(moved)) - alone.roll(shift, (2, 3))).abs().max() > 1e-3


def test_a_map_that_cannot_be_cut_evenly_is_refused():
    with pytest.raises(ef.BadInput, match="not cut evenly by 4"):
        anchor(torch.randn(1, 2, 6, 8), 4)
