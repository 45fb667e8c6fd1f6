"""Design: paths, edits, differences and YAML; and the same edits on a built model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import everyformer as ef
from everyformer.designs import design_of, matches
from support.parts import close

TINY = {"width": 32, "heads": 4, "depth": 3}
VIT = ef.design("vit", image=16, patch=4, classes=3, **TINY)
GPT = ef.design("gpt", vocabulary=20, length=8, **TINY)
TRANSFORMER = ef.design("transformer", vocabulary=20, hidden=48, dropout=0.0, **TINY)
GROUPED = ef.spec(ef.mixers.Attention, heads=4, key_heads=2)
PICTURES = torch.randn(2, 3, 16, 16)


def test_wildcards() -> None:
    assert matches("backbone.blocks.4.mixer", "backbone.blocks.*.mixer")
    assert matches("backbone.blocks.4.mixer", "**.mixer")
    assert matches("backbone.blocks.4.mixer", "backbone.**")
    assert matches("mixer", "**.mixer")
    assert matches("backbone.blocks.4.mixer", "backbone.block?.[0-4].mix*")
    assert not matches("backbone.blocks.4.mixer", "backbone.*.mixer")
    assert not matches("backbone.blocks.4", "backbone.blocks.4.*")


def test_a_model_knows_its_system_and_design() -> None:
    model = ef.create("vit", image=16, patch=4, classes=3, **TINY)
    assert design_of(model) == VIT
    ef.swap(model, "backbone.blocks.*.mixer", GROUPED)
    assert design_of(model) == VIT.swap("backbone.blocks.*.mixer", GROUPED)
    assert design_of(model).name == "vit"


def test_walk_find_and_get() -> None:
    paths = [path for path, _ in VIT.walk()]
    assert paths[0] == ""
    assert "backbone.blocks.2.residual.norm" in paths
    assert VIT.find("backbone.blocks.*.mixer") == [f"backbone.blocks.{i}.mixer" for i in range(3)]
    assert VIT.get("backbone.blocks.1.mixer").part is ef.mixers.Attention
    assert VIT.get("backbone.blocks.1.mixer.heads") == 4
    assert len(VIT.get("backbone.blocks")) == 3


def test_paths_are_the_paths_of_modules() -> None:
    model = TRANSFORMER.build()
    for path, spec in TRANSFORMER.walk():
        if "residual" not in path and path != "start":
            assert model.get_submodule(path).spec == spec


def test_swap_set_insert_remove_and_diff() -> None:
    swapped = VIT.swap("backbone.blocks.*.mixer", GROUPED)
    assert swapped.diff(VIT).splitlines() == [
        "- backbone.blocks.{0..2}.mixer.key_heads: None",
        "+ backbone.blocks.{0..2}.mixer.key_heads: 2",
    ]
    assert VIT.swap("**.mixer", lambda old: old.but(key_heads=2)) == swapped
    assert VIT.set("backbone.blocks.*.mixer.key_heads", 2) == swapped
    assert VIT.set("width", 64).spec.get("width") == 64
    longer = VIT.insert("backbone.blocks.0", VIT.get("backbone.blocks.0").but(feedforward=None))
    assert len(longer.get("backbone.blocks")) == 4
    assert longer.diff(VIT).startswith("+ backbone.blocks.0: ef.spec(backbones.Block")
    assert longer.remove("backbone.blocks.0") == VIT
    assert VIT.insert("backbone.blocks.3", VIT.get("backbone.blocks.0")).remove("backbone.blocks.3") == VIT
    assert len(VIT.remove("backbone.blocks.[02]").get("backbone.blocks")) == 1
    assert VIT.remove("backbone.norm").get("backbone.norm") is None
    assert VIT.diff(VIT) == "no difference"
    for edited in (swapped, longer, VIT.remove("backbone.blocks.[02]")):
        assert edited.build()(PICTURES).shape == (2, 3)


def test_wrap_and_replace_stack_in_either_order() -> None:
    """A swap that wraps what is there, and one that replaces inside it."""
    wrap = ("backbone.blocks.*.residual.norm", lambda old: ef.spec(ef.norms.RMSNorm, eps=old.get("eps")))
    replace = ("backbone.blocks.*.residual", lambda old: ef.spec(ef.norms.SandwichNorm, norm=old.get("norm")))
    one = VIT.swap(*wrap).swap(*replace)
    other = VIT.swap(*replace).swap(*wrap)
    assert one == other
    assert one.build()(PICTURES).shape == (2, 3)


@pytest.mark.parametrize("design", [VIT, GPT, TRANSFORMER], ids=["vit", "gpt", "transformer"])
def test_round_trips_through_yaml(design: ef.Design) -> None:
    again = ef.Design.from_yaml(design.to_yaml())
    assert again == design
    one, two = design.build(seed=3).state_dict(), again.build(seed=3).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_printed_as_a_tree() -> None:
    text = str(VIT)
    assert "blocks.0..2: Block() x 3" in text
    lines = {line.split(":")[0].strip(): line.split() for line in text.splitlines()}
    assert lines["vit"][-3] == f"{sum(p.numel() for p in VIT.build().parameters()):,}"
    assert lines["head"][-2:] == [str(32 * 3 + 3), str(2 * 32 * 3)]
    norm = next(line for line in text.splitlines() if line.strip().startswith("norm: LayerNorm(eps"))
    assert norm.split()[-1] == str(2 * 2 * 32), "both norms of a block"


def test_seed_fixes_the_weights_and_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    one, two, three = VIT.build(seed=1), VIT.build(seed=1), VIT.build(seed=2)
    assert torch.equal(torch.rand(1), wanted)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


MISTAKES: list[tuple[Any, str]] = [
    (lambda: VIT.swap("backbone.block.*.mixer", GROUPED), "or 'backbone.blocks.0.mixer'"),
    (lambda: VIT.swap("backbone.blocks.7.mixer", GROUPED), "no part at 'backbone.blocks.7.mixer'"),
    (lambda: VIT.set("backbone.blocks.*.mixer.haeds", 2), "did you mean 'heads'"),
    (lambda: VIT.get("backbone.blocks.9"), "no place '9' on the way to 'backbone.blocks.9': a list of 3 parts"),
    (lambda: VIT.get("backbone.bloks"), "did you mean 'blocks'"),
    (lambda: VIT.get("width.inside"), "nothing inside 32"),
    (lambda: VIT.insert("backbone.blocks.9", GROUPED), "cannot insert at 'backbone.blocks.9'"),
    (lambda: VIT.insert("backbone.norm", GROUPED), "expected a place in a list of parts"),
    (lambda: VIT.insert("head", GROUPED), "expected a place in a list of parts"),
    (lambda: VIT.remove("backbone.blocks.5"), "no part at 'backbone.blocks.5'"),
    (lambda: VIT.remove("embedding"), "option 'embedding' of Model takes"),
    (lambda: ef.Design.from_yaml("- 3"), "expected YAML with a key 'design'"),
    (lambda: ef.Design.from_yaml("a: [\n"), "not YAML"),
    (lambda: ef.create("vitt"), "unknown system 'vitt'; did you mean 'vit'"),
    (lambda: ef.create("vit", size="tinny"), "unknown size of 'vit' 'tinny'; did you mean 'tiny'"),
    (lambda: ef.create("vit", hedas=3), "unknown option of 'vit' 'hedas'; did you mean 'heads'"),
    (lambda: ef.create("vit", classes="10"), "option 'classes' of vit takes int; given '10'"),
    (lambda: ef.create("vit", patch=0), "'vit' cannot be made with"),
    (lambda: ef.create("gpt", depth=True), "option 'depth' of gpt takes int; given True"),
    (lambda: ef.create("gpt", heads=0), "heads is at least 1; given 0"),
    (lambda: ef.parts("mixer"), "unknown room 'mixer'; did you mean 'mixers'"),
    (lambda: ef.swap(nn.Linear(2, 2), "x", GROUPED), "Linear was not built from a design"),
]


@pytest.mark.parametrize(("act", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_answered(act: Any, message: str) -> None:
    with pytest.raises(ef.EveryformerError) as error:
        act()
    assert message in str(error.value)


def test_what_does_not_fit_names_part_place_and_what_would_fit() -> None:
    with pytest.raises(ef.DoesNotFit) as error:
        VIT.swap("backbone.blocks.2.mixer", GROUPED.but(heads=7)).build()
    assert error.value.path == "backbone.blocks.2.mixer"
    assert "mixers.Attention: width 32 is not a multiple of heads 7" in str(error.value)
    with pytest.raises(ef.DoesNotFit, match=r"at 'backbone\.positions': Learned stands in embedding, not in attention"):
        VIT.set("backbone.positions", ef.spec(ef.positions.Learned)).build()
    with pytest.raises(ef.DoesNotFit, match=r"at 'embedding\.positions': Rotary stands in attention"):
        VIT.set("embedding.positions", ef.spec(ef.positions.Rotary)).build()
    with pytest.raises(ef.DoesNotFit, match="at 'head': a tied head needs an embedding with a table"):
        VIT.swap("head", ef.spec(ef.heads.TiedHead, vocabulary=20)).build()
    with pytest.raises(ef.DoesNotFit, match=r"table of \(20, 32\); give both the same vocabulary"):
        GPT.set("head.vocabulary", 21).build()
    with pytest.raises(ef.DoesNotFit, match="mixers"):
        VIT.swap("backbone.blocks.0.mixer", ef.spec(ef.feedforward.MLP)).build()


# Edits of a built model


def held(model: nn.Module) -> dict[str, tuple[nn.Parameter, torch.Tensor]]:
    return {name: (p, p.detach().clone()) for name, p in model.named_parameters()}


def unchanged(model: nn.Module, before: dict[str, tuple[nn.Parameter, torch.Tensor]], *renamed: tuple[str, str]) -> int:
    """Check that every parameter that was there is the same object with the same bits; how many were."""
    found = 0
    for name, parameter in model.named_parameters():
        old = name
        for new_part, old_part in renamed:
            old = old.replace(new_part, old_part) if name.startswith(new_part) else old
        if old in before and before[old][0] is parameter:
            assert torch.equal(parameter, before[old][1]), name
            found += 1
    return found


def same_as_fresh(model: nn.Module) -> None:
    """The edited model has the modules, shapes and specs of one built from its design."""
    fresh = design_of(model).build()
    one = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    two = {name: tuple(p.shape) for name, p in fresh.state_dict().items()}
    assert one == two
    specs = {path: getattr(m, "spec", None) for path, m in model.named_modules()}
    assert specs == {path: getattr(m, "spec", None) for path, m in fresh.named_modules()}
    fresh.load_state_dict(model.state_dict())


def per_block(model: nn.Module) -> int:
    return len(list(model.backbone.blocks[0].parameters()))


EDITS: list[tuple[str, Any]] = [
    ("swap mixers", lambda m: ef.swap(m, "backbone.blocks.*.mixer", GROUPED)),
    ("swap one norm", lambda m: ef.swap(m, "backbone.blocks.1.residual.norm", ef.spec(ef.norms.RMSNorm))),
    ("swap residuals", lambda m: ef.swap(m, "backbone.blocks.*.residual", ef.spec(ef.norms.SandwichNorm))),
    ("swap feedforward", lambda m: ef.swap(m, "**.feedforward", ef.spec(ef.feedforward.Gated))),
    ("swap head", lambda m: ef.swap(m, "head", ef.spec(ef.heads.ClassHead, classes=5))),
    ("swap a block", lambda m: ef.swap(m, "backbone.blocks.0", ef.spec(ef.backbones.ParallelBlock))),
    ("swap nested", lambda m: ef.swap(m, "backbone.**", lambda old: old)),
    ("insert first", lambda m: ef.insert(m, "backbone.blocks.0", VIT.get("backbone.blocks.0"))),
    ("insert last", lambda m: ef.insert(m, "backbone.blocks.3", VIT.get("backbone.blocks.0"))),
    ("remove a block", lambda m: ef.remove(m, "backbone.blocks.1")),
    ("remove two blocks", lambda m: ef.remove(m, "backbone.blocks.[02]")),
    ("remove all blocks", lambda m: ef.remove(m, "backbone.blocks.*")),
    ("remove a norm", lambda m: ef.remove(m, "backbone.norm")),
    ("remove a mixer", lambda m: ef.remove(m, "backbone.blocks.1.mixer")),
    ("remove feedforwards", lambda m: ef.remove(m, "backbone.blocks.*.feedforward")),
]


@pytest.mark.parametrize(("what", "act"), EDITS, ids=[what for what, _ in EDITS])
def test_an_edited_model_is_what_its_design_builds(what: str, act: Any) -> None:
    model = VIT.build(seed=0)
    assert act(model) is model
    assert model(PICTURES).shape[0] == 2
    same_as_fresh(model)
    fresh = design_of(model).build().eval()
    fresh.load_state_dict(model.state_dict())
    close(model.eval()(PICTURES), fresh(PICTURES))


def test_a_swap_keeps_every_other_weight() -> None:
    model = VIT.build(seed=0)
    before = held(model)
    ef.swap(model, "backbone.blocks.1.mixer", GROUPED)
    assert unchanged(model, before) == len(before) - 4
    ef.swap(model, "backbone.blocks.2.residual.norm", ef.spec(ef.norms.RMSNorm))
    assert unchanged(model, before) == len(before) - 4 - 4


def test_removing_a_mixer_leaves_the_feedforward_its_own_norm() -> None:
    model = VIT.build(seed=0)
    with torch.no_grad():
        model.backbone.blocks[1].residual[1].norm.weight.fill_(3.0)
    ef.remove(model, "backbone.blocks.1.mixer")
    assert len(model.backbone.blocks[1].residual) == 1
    assert (model.backbone.blocks[1].residual[0].norm.weight == 3.0).all()


def test_inserting_and_removing_cross_attention() -> None:
    model = TRANSFORMER.build(seed=0)
    batch = model.example(2)
    before = held(model)
    cross = ef.spec(ef.mixers.CrossAttention, heads=2)
    block = model.decoder.blocks[0]
    feedforward_norm, cross_norm = block.residual[2], block.residual[1]
    ef.insert(model, "decoder.blocks.0.cross.0", cross)
    same_as_fresh(model)
    assert block.residual[3] is feedforward_norm
    assert block.residual[2] is cross_norm
    assert model(**batch).shape == (2, 16, 20)
    ef.remove(model, "decoder.blocks.0.cross.0")
    same_as_fresh(model)
    assert unchanged(model, before) == len(before)


def test_tied_heads_stay_tied() -> None:
    model = GPT.build(seed=0)
    table = model.embedding.table.weight
    ef.swap(model, "backbone.blocks.*.mixer", GROUPED)
    assert model.head.project.weight is table
    ef.swap(model, "head", ef.spec(ef.heads.TiedHead, vocabulary=20, bias=True))
    assert model.head.project.weight is model.embedding.table.weight is table
    ef.swap(model, "embedding.positions", ef.spec(ef.positions.Sinusoidal))
    assert model.head.project.weight is table
    ef.swap(model, "embedding", ef.spec(ef.embeddings.Text, vocabulary=20))
    assert model.head.project.weight is model.embedding.table.weight
    assert model.embedding.table.weight is not table


def test_an_optimizer_goes_on_with_what_stayed() -> None:
    model = VIT.build(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ef.swap(model, "backbone.blocks.1.mixer", GROUPED)
    ef.insert(model, "backbone.blocks.0", VIT.get("backbone.blocks.0"))
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert sum(id(p) in known for p in model.parameters()) == len(known) - 4
    before = model.head.classify.weight.clone()
    model(PICTURES).sum().backward()
    optimizer.step()
    assert not torch.equal(model.head.classify.weight, before)


def test_shared_positions_follow_the_heads() -> None:
    design = GPT.set("backbone.positions", ef.spec(ef.positions.Buckets))
    model = design.build(seed=0)
    ef.swap(model, "backbone.blocks.*.mixer", ef.spec(ef.mixers.Attention, heads=2))
    same_as_fresh(model)
    assert model(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 20)


def test_a_seed_makes_an_edit_repeatable_and_its_copies_different() -> None:
    one, two = (ef.swap(GPT.build(seed=0), "backbone.blocks.*.mixer", GROUPED, seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    first, second = (one.backbone.blocks[i].mixer.qkv.weight for i in range(2))
    assert not torch.equal(first, second)


def test_new_parts_are_where_and_as_the_model_is() -> None:
    model = VIT.build(seed=0).double().eval()
    ef.swap(model, "backbone.blocks.0.mixer", GROUPED)
    part = model.backbone.blocks[0].mixer
    assert part.qkv.weight.dtype == torch.float64
    assert not part.training


REFUSED: list[tuple[str, Any]] = [
    ("heads", lambda m: ef.swap(m, "backbone.blocks.*.mixer", GROUPED.but(heads=7))),
    ("room", lambda m: ef.swap(m, "backbone.blocks.1.mixer", ef.spec(ef.norms.LayerNorm))),
    ("path", lambda m: ef.swap(m, "backbone.blok.0", GROUPED)),
    ("insert", lambda m: ef.insert(m, "backbone.blocks.8", VIT.get("backbone.blocks.0"))),
    ("insert what", lambda m: ef.insert(m, "backbone.blocks.1", GROUPED.but(heads=5))),
    ("remove", lambda m: ef.remove(m, "embedding")),
    ("function", lambda m: ef.swap(m, "backbone.blocks.*.mixer", lambda old: 3)),
]


@pytest.mark.parametrize(("what", "act"), REFUSED, ids=[what for what, _ in REFUSED])
def test_a_refused_edit_leaves_the_model_as_it_was(what: str, act: Any) -> None:
    model = VIT.build(seed=0).eval()
    before, modules, answer = held(model), list(model.modules()), model(PICTURES)
    with pytest.raises(ef.EveryformerError):
        act(model)
    assert list(model.modules()) == modules
    assert unchanged(model, before) == len(before)
    assert design_of(model).spec == VIT.spec
    assert torch.equal(model(PICTURES), answer)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["mixer", "feedforward", "residual", "norm", "insert", "remove", "cut mixer", "cut feedforward"]
        ),
        st.integers(0, 2),
    ),
    max_size=6,
)


@given(STEPS)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_run_of_edits_gives_what_the_design_builds(steps: list[tuple[str, int]]) -> None:
    """An edit is either refused and changes nothing, or leaves a model like a fresh one, its other weights kept."""
    model = VIT.build(seed=0).eval()
    for what, at in steps:
        before, spec = held(model), model.spec
        block = f"backbone.blocks.{at}"
        try:
            if what == "insert":
                ef.insert(model, block, VIT.get("backbone.blocks.0").but(mixer=GROUPED))
            elif what == "remove":
                ef.remove(model, block)
            elif what.startswith("cut"):
                ef.remove(model, f"{block}.{what.partition(' ')[2]}")
            else:
                new = {
                    "mixer": GROUPED,
                    "feedforward": ef.spec(ef.feedforward.Gated, hidden=24),
                    "residual": ef.spec(ef.norms.SandwichNorm),
                    "norm": ef.spec(ef.norms.RMSNorm),
                }[what]
                ef.swap(model, f"{block}.residual.norm" if what == "norm" else f"{block}.{what}", new)
        except ef.EveryformerError:
            assert model.spec == spec
            assert unchanged(model, before) == len(before) == len(list(model.parameters()))
        same_as_fresh(model)
    fresh = design_of(model).build().eval()
    fresh.load_state_dict(model.state_dict())
    close(model(PICTURES), fresh(PICTURES))
