"""`gpt` against Hugging Face's GPT-2."""

from transformers import GPT2Config, GPT2LMHeadModel

from everyformer.interop import gpt
from support.parity import agree, ids, perturb, ragged


def test_equals_hugging_face():
    config = GPT2Config(vocab_size=71, n_positions=20, n_embd=48, n_layer=3, n_head=4)
    theirs = perturb(GPT2LMHeadModel(config))
    ours = gpt.from_transformers(theirs)
    inputs, mask = ids(71, 3, 13), ragged(3, 13)
    expected = theirs(inputs, attention_mask=mask.long()).logits
    agree(ours, theirs, gpt.pairs(theirs), ours(inputs, mask=mask), expected, mask)


def test_equals_hugging_face_padded_left():
    config = GPT2Config(vocab_size=71, n_positions=20, n_embd=48, n_layer=2, n_head=4)
    theirs = perturb(GPT2LMHeadModel(config))
    ours = gpt.from_transformers(theirs)
    inputs, mask = ids(71, 3, 13), ragged(3, 13, left=True)
    places = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(inputs, attention_mask=mask.long(), position_ids=places).logits
    agree(ours, theirs, gpt.pairs(theirs), ours(inputs, mask=mask), expected, mask)
