"""`bart` and `led` against Hugging Face's BART, mBART, Marian and LED."""

import pytest
import torch
import transformers as tf

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal, perturb
from support.parity import ids, ragged

SIZES = {
    "vocab_size": 71, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 0,
}  # fmt: skip
PLACES = {"max_position_embeddings": 24}
LED = {"max_encoder_position_embeddings": 24, "max_decoder_position_embeddings": 20, "attention_window": 4}


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        (tf.BartForConditionalGeneration, tf.BartConfig, PLACES),
        (tf.MBartForConditionalGeneration, tf.MBartConfig, {**PLACES, "scale_embedding": True}),
        (tf.MarianMTModel, tf.MarianConfig, {**PLACES, "activation_function": "swish"}),
        (tf.LEDForConditionalGeneration, tf.LEDConfig, LED),
    ],
)
def test_equals_hugging_face(kind, config, options):
    theirs = perturb(kind(config(**SIZES, **options)), std=0.1)
    theirs.final_logits_bias = torch.nn.Parameter(torch.randn(1, 71))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 12), ragged(3, 12)
    target, target_mask = ids(71, 3, 9, seed=4), ragged(3, 9)
    given = {"decoder_input_ids": target, "decoder_attention_mask": target_mask.long()}
    fields = {}
    if config is tf.LEDConfig:
        fields["marked"] = torch.zeros_like(mask)
        fields["marked"][:, [0, 2]] = True
        given["global_attention_mask"] = fields["marked"].long()
    answer = ours(inputs, target, mask=mask, target_mask=target_mask, **fields)
    expected = theirs(inputs, attention_mask=mask.long(), **given).logits
    equal(ours, theirs, answer, expected, target_mask)


@pytest.mark.parametrize(
    ("system", "size", "count"),
    [
        ("bart", "base", 139_420_416), ("bart", "large", 406_291_456), ("led", "base", 161_844_480),
        ("led", "large", 459_801_600),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(system, size, count):
    """Of the published weights, which count no biases of the words."""
    design = ef.design(system, size)
    skipped = 2 * 2 * design.get("width") if system == "bart" else 0  # rows of positions that no token has
    assert parameters(on_meta(design)) - design.get("source.vocabulary") == count - skipped


def test_source_target_and_answer_have_one_table():
    model = ef.create("bart", vocabulary=20, width=16, hidden=16, depth=1, heads=2, length=8)
    assert model.source.table.weight is model.target.table.weight is model.head.project.weight
    assert model.source.positions.table.weight is not model.target.positions.table.weight
