"""A linear map inside a part is a place too: another form of it is put in and taken out by its path."""

import pytest
import torch

import everyformer as ef
from everyformer.compression import LowRank
from everyformer.designs import Design
from everyformer.edits import design_of

MIXERS = "backbone.blocks.*.mixer.qkv"


def small(**options):
    return ef.design("vit", width=16, depth=2, heads=2, image=8, patch=4, classes=3, **options)


def picture():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_linears_are_named_by_path_and_tied_ones_are_left_out():
    assert small().linears()[0] == "backbone.blocks.0.mixer.qkv"
    assert {path.split(".")[-1] for path in small().linears()} >= {"qkv", "output", "up", "down"}
    gpt = ef.design("gpt", width=16, depth=1, heads=2, vocabulary=11, length=8)
    assert gpt.build().head.tied
    assert not any(path.startswith("head") for path in gpt.linears())


def test_design_with_a_map_in_another_form_is_a_design_like_any_other():
    design = small().swap(MIXERS, ef.spec(LowRank, rank=2))
    assert Design.from_yaml(design.to_yaml()) == design != small()
    assert design.find(MIXERS) == ["backbone.blocks.0.mixer.qkv", "backbone.blocks.1.mixer.qkv"]
    assert design.diff(
        small()
    ) == "- backbone.blocks.{0..1}.mixer.qkv: None\n+ backbone.blocks.{0..1}.mixer.qkv: " + repr(
        ef.spec(LowRank, rank=2)
    )
    assert "qkv: LowRank(rank=2)" in str(design)
    assert isinstance(design.build().backbone.blocks[0].mixer.qkv, LowRank)
    assert design.set(MIXERS + ".rank", 3).get("backbone.blocks.1.mixer.qkv.rank") == 3
    assert design.remove(MIXERS) == small()


def test_one_plain_map_beside_others_in_another_form_is_found():
    design = (
        small().swap("backbone.blocks.0.mixer.qkv", ef.spec(LowRank, rank=2)).swap(MIXERS, ef.spec(LowRank, rank=4))
    )
    assert [design.get(f"backbone.blocks.{i}.mixer.qkv").get("rank") for i in (0, 1)] == [4, 4]


def test_function_is_given_what_stands_there_or_none():
    given = []

    def form(old):
        given.append(old)
        return ef.spec(LowRank, rank=2)

    design = small().swap("backbone.blocks.0.mixer.qkv", ef.spec(LowRank, rank=3))
    design.swap(MIXERS, form)
    assert {each if each is None else each.get("rank") for each in given} == {None, 3}


def test_trained_map_goes_into_the_form_and_back():
    model = small().build(seed=0).eval()
    before = model(picture())
    ef.swap(model, MIXERS, ef.spec(LowRank, rank=16))
    torch.testing.assert_close(model(picture()), before, atol=1e-5, rtol=1e-5)
    assert design_of(model) == small().swap(MIXERS, ef.spec(LowRank, rank=16))
    ef.remove(model, MIXERS)
    torch.testing.assert_close(model(picture()), before, atol=1e-5, rtol=1e-5)
    assert design_of(model) == small()
    assert type(model.backbone.blocks[0].mixer.qkv) is torch.nn.Linear


def test_low_rank_is_the_best_of_its_rank():
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    made = LowRank(5, 6, rank=2)
    with torch.no_grad():
        made.take(weight)
    left = torch.linalg.svdvals(weight)[2:]
    torch.testing.assert_close(((weight - made.weight) ** 2).sum(), (left**2).sum())


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("backbone.blocks.0.mixer.nothing", ef.spec(LowRank), "no part at"),
        (MIXERS, ef.spec(ef.mixers.Attention, heads=2), "does not stand for a linear map"),
        (MIXERS, ef.spec(LowRank, rank=99), "1 to 16; given 99"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(path, new, message):
    model = small().build(seed=0)
    with pytest.raises(ef.EveryformerError, match=message):
        ef.swap(model, path, new)
    assert design_of(model) == small()


def test_part_that_holds_another_form_is_not_resized():
    model = ef.swap(small().build(seed=0), MIXERS, ef.spec(LowRank, rank=2))
    with pytest.raises(ef.DoesNotFit, match="take that out first"):
        ef.resize(model, "backbone.blocks.0.mixer.heads", 4)


def test_maps_in_yaml_are_checked():
    with pytest.raises(ef.EveryformerError, match="by name"):
        Design.from_yaml("design: {mixers.Attention: {}, maps: 3}")
