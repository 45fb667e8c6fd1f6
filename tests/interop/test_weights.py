"""Tables of pairs: read, written, and refused with every fault named."""

import pytest
import torch

import everyformer as ef
from everyformer.interop.forms import Following, Interleaved, Joined, Leading, Rows, Wrapped
from everyformer.interop.weights import Pair, fill, layer, resolve, write


def two(bias=True):
    return torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2, bias=bias), "b": torch.nn.Linear(3, 4)})


TABLE = [*layer("a", "x"), *layer("b", "y", "z")]
THEIRS = {"x.weight": (2, 3), "x.bias": (2,), "y.weight": (1, 3), "y.bias": (1,), "z.weight": (3, 3), "z.bias": (3,)}


def given(**changes):
    shapes = {**THEIRS, **changes}
    return {name: torch.randn(shape) for name, shape in shapes.items() if shape}


def test_weights_under_other_names_are_copied():
    model, theirs = two(), given()
    fill(model, TABLE, theirs)
    assert torch.equal(model["a"].weight, theirs["x.weight"])
    assert torch.equal(model["b"].weight, torch.cat((theirs["y.weight"], theirs["z.weight"])))


@pytest.mark.parametrize("name", THEIRS)
def test_a_tensor_missing_is_named(name):
    with pytest.raises(ef.BadInput, match=f"the checkpoint lacks {name}"):
        fill(two(), TABLE, given(**{name: None}))


def test_a_tensor_too_many_is_named():
    with pytest.raises(ef.BadInput, match="no place for: more"):
        fill(two(), TABLE, given(more=(1,)))


def test_a_tensor_of_ours_that_stays_empty_is_named():
    with pytest.raises(ef.BadInput, match=r"the checkpoint fills no a\.bias"):
        fill(two(), [pair for pair in TABLE if pair.ours != "a.bias"], given(**{"x.bias": None}))


def test_a_bias_that_ours_does_not_have_is_too_much():
    with pytest.raises(ef.BadInput, match=r"no place for: x\.bias"):
        fill(two(bias=False), TABLE, given())
    fill(two(bias=False), TABLE, given(**{"x.bias": None}))


def test_all_faults_are_told_at_once_and_nothing_is_copied():
    model = two()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    told = r"lacks y\.weight; .*no place for: more; of another shape: x\.weight"
    with pytest.raises(ef.BadInput, match=told):
        fill(model, TABLE, given(**{"x.weight": (5, 3), "y.weight": None, "more": (1,)}))
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_another_shape_is_named():
    with pytest.raises(ef.BadInput, match=r"x\.weight \(5, 3\) for 'a.weight' \(2, 3\) of the design"):
        fill(two(), TABLE, given(**{"x.weight": (5, 3)}))


def test_steps_of_a_path_are_taken_over():
    model = torch.nn.ModuleList(torch.nn.ModuleList([torch.nn.Linear(2, 2, bias=False)] * 1) for _ in range(3))
    found = resolve(model, layer("*.*", "stage.*.block.*.map"))
    assert [pair.theirs for each in found.values() for pair in each] == [
        (f"stage.{i}.block.0.map.weight",) for i in range(3)
    ]


FORMS = {
    "joined": (Joined(), [(1, 3), (3, 3)], (4, 3), [1, 3]),
    "transposed": (Joined(True), [(3, 2), (3, 4)], (6, 3), [2, 4]),
    "interleaved": (Interleaved(heads=2), [(12, 5)], (12, 5), [12]),
    "interleaved bias": (Interleaved(heads=2), [(12,)], (12,), [12]),
    "wrapped": (Wrapped(before=1, after=2), [(1, 4, 3, 1, 1)], (4, 3), [4]),
    "following": (Following(0, wrapped=True), [(1, 4, 3)], (4, 3), [4]),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_reads_and_writes(name):
    form, shapes, expected, sizes = FORMS[name]
    theirs = [torch.randn(shape) for shape in shapes]
    ours = form.read(theirs)
    assert ours.shape == expected
    assert all(torch.equal(a, b) for a, b in zip(form.write(ours, sizes), theirs, strict=True))


def test_interleaved_rows_are_heads_first():
    rows = torch.tensor([f for head in (0, 1) for part in (0, 10, 20) for f in (part + head,) * 2])
    assert Interleaved(heads=2).read([rows]).tolist() == [0, 0, 1, 1, 10, 10, 11, 11, 20, 20, 21, 21]


def test_leading_tokens_take_their_positions_along():
    tokens, table = [torch.randn(1, 1, 3) for _ in range(2)], torch.randn(1, 6, 3)
    first, rest = Leading().read([*tokens, table]), Following(2, wrapped=True).read([table])
    assert torch.equal(first, torch.stack([t[0, 0] for t in tokens]) + table[0, :2])
    *again, none = Leading().write(first, [2])
    (whole,) = Following(2, wrapped=True).write(rest, [4])
    assert none is None
    assert torch.equal(Leading().read([*again, whole]), first)
    assert torch.equal(Following(2, wrapped=True).read([whole]), rest)


def test_one_tensor_of_theirs_may_be_rows_of_several_of_ours():
    model, packed = two(bias=False), torch.randn(6, 3)
    model["b"] = torch.nn.Linear(3, 4, bias=False)
    table = [
        Pair("b.weight", ("packed",), Rows(1, 3, 3)),
        Pair("a.weight", ("packed",), Rows(0, 1, 3)),
    ]
    fill(model, table, {"packed": packed})
    assert torch.equal(model["a"].weight, packed[:2])
    assert torch.equal(write(model, table)["packed"], packed)


def tied():
    model = two()
    model["b"] = torch.nn.Linear(3, 2)
    model["b"].weight = model["a"].weight
    return model


def test_a_tied_tensor_may_stand_once_or_twice_and_must_then_agree():
    table = [*layer("a", "x"), *layer("b", "y")]
    theirs = {"x.weight": torch.randn(2, 3), "x.bias": torch.randn(2), "y.bias": torch.randn(2)}
    for more in ({}, {"y.weight": theirs["x.weight"].clone()}):
        model = tied()
        fill(model, table, {**theirs, **more})
        assert torch.equal(model["b"].weight, theirs["x.weight"])
    model = tied()
    fill(model, table, {name.replace("x.weight", "y.weight"): each for name, each in theirs.items()})
    assert torch.equal(model["a"].weight, theirs["x.weight"])
    assert set(write(model, table)) == {"x.weight", "x.bias", "y.bias"}
    with pytest.raises(ef.BadInput, match=r"x\.weight and y\.weight of the checkpoint differ"):
        fill(tied(), table, {**theirs, "y.weight": torch.randn(2, 3)})


def test_a_tensor_without_a_place_is_not_written():
    with pytest.raises(ef.DoesNotFit, match=r"at 'b\.weight': the format has no place"):
        write(two(), layer("a", "x"))
    assert Pair("a", ("x",)).at("b") is None
