"""A text system goes back to Hugging Face transformers and gives the same answers there, or is refused."""

import pytest
import torch

import everyformer as ef
from everyformer.interop import bert, gpt, llama, t5
from everyformer.interop.weights import Pair, fill, layer, tensors
from support.parity import ids, perturb, ragged

FAMILIES = {"bert": bert, "gpt": gpt, "llama": llama, "t5": t5}
SMALL = {"vocabulary": 71, "width": 48, "depth": 2, "heads": 4}
CASES = {
    "bert": [{}, {"classes": 5, "dropout": 0.2, "head_dropout": 0.3, "activation": "relu"}],
    "gpt": [{"length": 20}, {"dropout": 0.2}],
    "llama": [{"key_heads": 2}, {"hidden": 80, "tied": True, "base": 5000.0, "llama3": (4.0, 1.0, 4.0, 16.0)}],
    "t5": [{"head_width": 10, "hidden": 96}, {"hidden": 96, "gated": True, "activation": "gelu_tanh", "tied": False}],
}


def both_ways(name, options):
    ours = perturb(ef.create(name, seed=0, **SMALL, **options))
    return ours, FAMILIES[name].to_transformers(ours)


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, each in CASES.items() for o in each], ids=str)
def test_the_way_back_keeps_every_answer(name, options):
    ours, theirs = both_ways(name, options)
    inputs, mask = ids(71, 2, 9), ragged(2, 9)
    batch, given = {"inputs": inputs, "mask": mask}, {"input_ids": inputs, "attention_mask": mask.long()}
    real = slice(None) if "classes" in options else mask
    if name == "t5":
        batch |= {"target": inputs, "target_mask": mask}
        given |= {"decoder_input_ids": inputs, "decoder_attention_mask": mask.long()}
    answer, expected = ours(**batch)[real], theirs(**given).logits[real]
    torch.testing.assert_close(answer, expected, atol=1e-5 * max(1, expected.abs().max().item()), rtol=0)
    again = FAMILIES[name].from_transformers(theirs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(again).values(), tensors(ours).values(), strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_design_without_a_class_of_theirs_is_refused_with_its_path(name):
    stack = "encoder.blocks" if name == "t5" else "backbone.blocks"
    design = ef.design(name, **SMALL).set(f"{stack}.1.mixer.temperature", 2.0)
    with pytest.raises(ef.DoesNotFit, match=rf"(?s)cannot hold this design.*{stack}\.1\.mixer\.temperature"):
        FAMILIES[name].to_transformers(design.build())


def test_a_part_of_another_kind_is_named():
    norms = ef.design("gpt", **SMALL).swap("**.norm", ef.spec(ef.norms.RMSNorm))
    with pytest.raises(ef.EveryformerError, match=r"norms\.RMSNorm"):
        gpt.to_transformers(norms.build())


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


def test_a_tensor_that_ours_does_not_have_is_named():
    with pytest.raises(ef.BadInput, match=r"the design has no a\.bias"):
        fill(two(bias=False), TABLE, given())


def test_another_shape_is_named():
    with pytest.raises(ef.BadInput, match=r"x\.weight: given \(5, 3\), and 'a.weight' of the design is \(2, 3\)"):
        fill(two(), TABLE, given(**{"x.weight": (5, 3)}))


def test_a_table_reads_and_writes():
    pair = Pair("ours", ("x", "y"), transposed=True)
    theirs = {"x": torch.randn(3, 2), "y": torch.randn(3, 4)}
    ours = pair.read(theirs)
    assert ours.shape == (6, 3)
    back = pair.write(ours, {name: each.shape for name, each in theirs.items()})
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("module", "setting", "message"),
    [
        (gpt, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        (gpt, {"activation_function": "mish"}, "unknown activation 'mish'"),
    ],
)
def test_a_setting_that_the_system_does_not_have_is_refused(module, setting, message):
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(ef.EveryformerError, match=message):
        module.from_transformers(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, **setting)))
