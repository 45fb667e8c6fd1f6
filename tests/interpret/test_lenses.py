"""Lenses and direct logits: at the last layer they are the model."""

from __future__ import annotations

import pytest
import torch

import everyformer as ef
from everyformer.errors import DoesNotFit
from everyformer.interpret import decoder_lens, direct_logits, logit_lens
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny

OPTIONS = {"bos": 1, "eos": None, "pad": 0, "max_tokens": 5}


@pytest.mark.parametrize("name", ["gpt", "llama", "bert", "vit", "transformer", "itransformer"])
def test_the_last_layer_says_what_the_model_says(name):
    model = model_of(tiny(name)).eval()
    if getattr(model, "reversible", None) is not None:
        model.reversible = None
    batch = example(model, 2)
    said = logit_lens(model, **batch)
    assert len(said) == 3
    close([*said.values()][-1], model(**batch))
    assert (said[[*said][1]] - model(**batch)).abs().max() > 1e-3


def test_the_decoder_lens_at_the_last_layer_generates_what_the_model_does():
    model = model_of(tiny("t5"))
    source = torch.randint(1, 20, (3, 7), generator=torch.Generator().manual_seed(1))
    said = decoder_lens(model, source, **OPTIONS)
    assert [*said] == ["encoder.blocks.0.input", "encoder.blocks.0", "encoder.blocks.1"]
    assert said["encoder.blocks.1"] == ef.generation.generate(model, source, **OPTIONS)
    model.encoder.norm.weight.data *= -1
    assert said["encoder.blocks.1"] != decoder_lens(model, source, **OPTIONS)["encoder.blocks.1"]


def test_the_decoder_lens_reads_through_a_layer_norm_while_gradients_are_on():
    shape = {"vocabulary": 20, "width": 16, "hidden": 16, "depth": 2, "heads": 2}
    model = ef.create("transformer", **shape, pre_norm=True).eval()
    assert len(decoder_lens(model, torch.randint(1, 20, (2, 5)), **OPTIONS)) == 3


def test_the_decoder_lens_is_hugging_faces_generation_from_a_hidden_state():
    from transformers import T5Config, T5ForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    from everyformer.interop import from_transformers
    from support.agreement import perturb
    from support.parity import ids

    shape = {"vocab_size": 71, "d_model": 48, "d_kv": 10, "d_ff": 96, "num_layers": 3, "num_heads": 4}
    theirs = perturb(T5ForConditionalGeneration(T5Config(**shape)), std=0.3)
    inputs = ids(71, 2, 9)
    said = decoder_lens(from_transformers(theirs), inputs, **OPTIONS)
    hidden = theirs.encoder(inputs, output_hidden_states=True).hidden_states
    for place, state in zip(said, hidden[:-1], strict=False):
        known = BaseModelOutput(theirs.encoder.final_layer_norm(state))
        wanted = theirs.generate(
            encoder_outputs=known,
            decoder_start_token_id=1,
            max_new_tokens=5,
            min_new_tokens=5,
            do_sample=False,
            num_beams=1,
        )
        assert said[place] == wanted[:, 1:].tolist()
    assert len({str(each) for each in said.values()}) > 1


@pytest.mark.parametrize("name", ["gpt", "llama", "transformer"])
def test_direct_logits_add_up_to_the_logits(name):
    model = model_of(tiny(name))
    batch = example(model, 2)
    direction = torch.randn(20, generator=torch.Generator().manual_seed(4))
    parts = direct_logits(model, direction, **batch)
    total = sum(value.sum(1) if value.dim() == 3 else value for value in parts.values())
    close(total, model(**batch) @ direction, 1e-4)
    assert sum(path.endswith(".mixed") for path in parts) == 2


def test_the_head_that_is_taken_out_adds_nothing():
    model = model_of(tiny("gpt"))
    model.backbone.blocks[1].mixer.output.weight.data[:, 8:16] = 0
    parts = direct_logits(model, torch.randn(20), **example(model, 2))
    heads = parts["backbone.blocks.1.mixer.mixed"]
    assert heads[:, 1].abs().max() == 0 < heads[:, 0].abs().max()


def test_a_model_without_the_view_is_told_what_there_is():
    with pytest.raises(DoesNotFit, match="use logit_lens"):
        decoder_lens(model_of(tiny("gpt")), torch.ones(1, 3, dtype=torch.long), **OPTIONS)
    vit = model_of(tiny("vit"))
    with pytest.raises(DoesNotFit, match="linear map of each token"):
        direct_logits(vit, torch.randn(3), **example(vit))
