"""`whisper` against Hugging Face's."""

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import close, equal, perturb
from support.parity import ids, ragged


def whispers():
    config = WhisperConfig(
        vocab_size=71, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_attention_heads=4, decoder_ffn_dim=48, num_mel_bins=8, max_source_positions=20, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    theirs = perturb(WhisperForConditionalGeneration(config), std=0.2)
    return theirs, from_transformers(theirs)


def test_equals_hugging_face():
    theirs, ours = whispers()
    sounds, target, mask = torch.randn(2, 40, 8), ids(71, 2, 9), ragged(2, 9)
    given = {"decoder_input_ids": target, "decoder_attention_mask": mask.long()}
    expected = theirs(sounds.mT, **given).logits
    equal(ours, theirs, ours(sounds, target, target_mask=mask), expected, mask)


@torch.no_grad()
def test_the_same_words_token_for_token_with_and_without_a_cache():
    theirs, ours = whispers()
    sounds = torch.randn(3, 40, 8)
    for cache in (None, Cache()):
        context = ours.prepare(sounds, Context(cache=cache))
        said = torch.ones(3, 1, dtype=torch.long)
        for _ in range(8):
            logits = ours.decode(said if cache is None else said[:, -1:], context, last=True)[:, -1]
            wanted = theirs(sounds.mT, decoder_input_ids=said).logits[:, -1]
            close(logits, wanted)
            said = torch.cat((said, wanted.argmax(-1, keepdim=True)), 1)


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("tiny", 37_760_640),
        ("base", 72_593_920),
        ("small", 241_734_912),
        ("medium", 763_857_920),
        ("large", 1_543_304_960),
    ],
)
def test_sizes_are_the_published_ones(size, count):
    """Of the published weights, which hold the sines and no biases of keys."""
    design = ef.design("whisper", size)
    width, depth = design.get("width"), len(design.get("encoder.blocks"))
    assert parameters(on_meta(design)) - 3 * depth * width + 1500 * width == count


@pytest.mark.parametrize("count", [17, 20])
def test_a_short_sound_in_a_batch_is_heard_as_alone(count):
    embedding = ef.spec(ef.embeddings.SpectrogramConvs, mels=8).build(16)
    sounds = torch.randn(2, 30, 8)
    mask = torch.arange(30) < torch.tensor([[30], [count]])
    tokens, alone = embedding(sounds, mask=mask), embedding(sounds[1:, :count])
    assert int(tokens.mask[1].sum()) == alone.count == (count + 1) // 2
    close(tokens.values[1, : alone.count], alone.values[0])
