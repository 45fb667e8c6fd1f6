"""`wav2vec2` against Hugging Face's wav2vec 2.0 and HuBERT."""

import pytest
import torch
from transformers import HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.embeddings.waves import OverTime
from everyformer.interop import from_transformers
from support.agreement import close, equal
from support.parity import perturb

SIZES = {
    "vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (8, 12), "conv_stride": (3, 2), "conv_kernel": (5, 3), "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "config"), [(Wav2Vec2ForCTC, Wav2Vec2Config), (HubertForCTC, HubertConfig)])
def test_equals_hugging_face(kind, config):
    layered = {"feat_extract_norm": "layer", "do_stable_layer_norm": True} if kind is HubertForCTC else {}
    theirs = perturb(kind(config(**SIZES, **layered)))
    ours = from_transformers(theirs)
    sounds = torch.randn(2, 80)
    equal(ours, theirs, ours(sounds), theirs(sounds).logits)


@pytest.mark.parametrize(("size", "published"), [("base", 95e6), ("large", 317e6)])
def test_sizes_are_the_published_ones(size, published):
    """Section 4.2, without the quantiser that only pre-training has."""
    model = on_meta(ef.design("wav2vec2", size).remove("head"))
    assert parameters(model) == pytest.approx(published, rel=0.01)


def test_a_token_is_real_that_saw_no_padding():
    embedding = ef.spec(ef.embeddings.WaveConvs, widths=(8, 8), kernels=(4, 2), strides=(2, 2)).build(16).eval()
    sounds = torch.randn(2, 30)
    mask = torch.arange(30) < torch.tensor([[30], [21]])
    tokens = embedding(sounds, mask=mask)
    alone = embedding(sounds[1:, :21])
    assert tokens.mask.sum(1).tolist() == [embedding(sounds).count, alone.count]
    close(tokens.values[1, : alone.count], alone.values[0])


def test_padding_has_no_part_in_the_norm_over_time():
    norm, values = OverTime(3), torch.randn(1, 3, 9)
    mask = torch.arange(9)[None] < 5
    close(norm(values, mask)[..., :5], norm(values[..., :5], None))


def test_a_sound_too_short_is_refused():
    embedding = ef.spec(ef.embeddings.WaveConvs).build(16)
    assert embedding.least == 400
    with pytest.raises(ef.BadInput, match="at least 400 samples"):
        embedding(torch.randn(1, 399))
