"""`ast` against Hugging Face's Audio Spectrogram Transformer."""

import pytest
import torch
from transformers import ASTConfig, ASTForAudioClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from support.agreement import equal, perturb


def theirs_with(**changes):
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    audio = {"max_length": 37, "num_mel_bins": 20, "patch_size": 8, "frequency_stride": 5, "time_stride": 5}
    return perturb(ASTForAudioClassification(ASTConfig(**{**sizes, **audio, "num_labels": 7, **changes})))


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "layer_norm_eps": 1e-3}])
def test_equals_hugging_face(changes):
    theirs = theirs_with(**changes)
    ours = from_transformers(theirs)
    sound = torch.randn(3, 37, 20)
    equal(ours, theirs, ours(sound), theirs(sound).logits)


def test_base_has_the_published_size():
    ours = parameters(on_meta(ef.design("ast")))
    with torch.device("meta"):
        theirs = ASTForAudioClassification(ASTConfig(num_labels=527))
    # A leading token here is theirs and its position in one.
    assert ours == sum(p.numel() for p in theirs.parameters()) - 2 * 768


def test_the_grid_of_the_paper():
    """Section 2.1: 12 x 101 patches for ten seconds, 1,212 with the class and distillation tokens beside them."""
    assert ef.embeddings.SpectrogramPatches.grid(128, 1024, 16, 10) == (12, 101)


def test_strides_that_differ_are_refused():
    with pytest.raises(ef.BadInput, match="frequency_stride=5, time_stride=4"):
        from_transformers(theirs_with(time_stride=4))


@pytest.mark.parametrize("frames", [8, 21, 60])
def test_any_length_of_sound(frames):
    model = ef.create("ast", "digits", seed=0).eval()
    assert model(torch.randn(2, frames, 40)).shape == (2, 10)


def test_wrong_input_is_refused():
    model = ef.create("ast", "digits")
    with pytest.raises(
        ef.BadInput, match=r"\(B, frames, 40\); given a tensor of shape \(2, 80, 64\); build with mels=64"
    ):
        model(torch.zeros(2, 80, 64))
    with pytest.raises(ef.BadInput, match="7 frames, and patches of 8"):
        model(torch.zeros(2, 7, 40))
    with pytest.raises(ef.DoesNotFit, match=r"embedding.*holds no patch of 16x16"):
        ef.create("ast", "tiny", mels=12)


def test_leading_tokens_are_averaged_packed_too():
    from everyformer.tokens import Tokens, pack

    pool = ef.spec(ef.heads.LeadingMean).build(4)
    values = torch.randn(3, 7, 4)
    mask = torch.arange(7) < torch.tensor([7, 5, 2])[:, None]
    tokens = Tokens(values, mask=mask, prefix=2)
    expected = (values[:, 0] + values[:, 1]) / 2
    torch.testing.assert_close(pool(tokens), expected)
    torch.testing.assert_close(pool(pack(tokens)), expected)
