"""A text system goes back to Hugging Face transformers and gives the same answers there, or is refused."""

import pytest
import torch

import everyformer as ef
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from support.parity import ids, perturb, ragged

SMALL = {"vocabulary": 71, "width": 48, "depth": 2, "heads": 4}
CASES = {
    "bert": [{}, {"classes": 5, "dropout": 0.2, "head_dropout": 0.3, "activation": "relu"}],
    "gpt": [{"length": 20}, {"dropout": 0.2}],
    "llama": [{"key_heads": 2}, {"hidden": 80, "tied": True, "base": 5000.0, "llama3": (4.0, 1.0, 4.0, 16.0)}],
    "t5": [{"head_width": 10, "hidden": 96}, {"hidden": 96, "gated": True, "activation": "gelu_tanh", "tied": False}],
}


def both_ways(name, options):
    ours = perturb(ef.create(name, seed=0, **SMALL, **options))
    return ours, to_transformers(ours)


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
    again = from_transformers(theirs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(again).values(), tensors(ours).values(), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_design_without_a_class_of_theirs_is_refused_with_its_path(name):
    stack = "encoder.blocks" if name == "t5" else "backbone.blocks"
    design = ef.design(name, **SMALL).set(f"{stack}.1.mixer.temperature", 2.0)
    with pytest.raises(ef.DoesNotFit, match=rf"(?s)cannot hold this design.*{stack}\.1\.mixer\.temperature"):
        to_transformers(design.build())


def test_a_part_of_another_kind_is_named():
    norms = ef.design("gpt", **SMALL).swap("**.norm", ef.spec(ef.norms.RMSNorm))
    with pytest.raises(ef.EveryformerError, match=r"norms\.RMSNorm"):
        to_transformers(norms.build())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"activation_function": "mish"}, "unknown activation_function 'mish'"),
    ],
)
def test_a_setting_that_the_system_does_not_have_is_refused(setting, message):
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(ef.EveryformerError, match=message):
        from_transformers(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, **setting)))


def test_what_is_only_for_training_is_no_hindrance():
    """Llama has no dropout in residuals there; a model that was trained with it answers the same without."""
    ours = perturb(ef.create("llama", seed=0, **SMALL, dropout=0.1))
    inputs = ids(71, 2, 9)
    torch.testing.assert_close(to_transformers(ours)(inputs).logits, ours(inputs), atol=1e-5, rtol=0)


def test_a_system_without_a_family_is_named():
    with pytest.raises(ef.UnknownName, match="system with a way to Hugging Face transformers 'itransformer'"):
        to_transformers(ef.create("itransformer", width=8, heads=2, depth=1))
