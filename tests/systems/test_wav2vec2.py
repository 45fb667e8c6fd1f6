"""`wav2vec2` against Hugging Face's wav2vec 2.0 and HuBERT."""

import pytest
import torch
from transformers import HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.embeddings.waves import OverTime
from everyformer.interop import from_transformers, live
from everyformer.interop.weights import tensors
from everyformer.objectives import HiddenCodes
from everyformer.objectives.sounds import elsewhere
from support.agreement import close, equal, same_gradients
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


def gradients(model):
    for each in model.parameters():
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad
    return {name: each.grad for name, each in tensors(model).items()}


def draw_alike(*_):
    torch.manual_seed(3)


@pytest.mark.parametrize("training", [False, True], ids=["in use", "in training"])
def test_the_loss_of_pretraining_equals_hugging_face(training):
    """In training both draw the same codes, from the same noise; in use a choice has no derivative."""
    config = Wav2Vec2Config(
        **{**SIZES, "mask_time_prob": 0.05}, codevector_dim=12, num_codevector_groups=2, num_codevectors_per_group=5,
        proj_codevector_dim=10, feat_extract_norm="layer", do_stable_layer_norm=True, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip
    theirs = perturb(Wav2Vec2ForPreTraining(config)).train(training)
    ours = from_transformers(theirs).train(training)
    for quantizer in (theirs.quantizer, ours.head.quantizer):
        quantizer.register_forward_pre_hook(draw_alike)
    sounds, mask = torch.randn(2, 80), torch.arange(80) < torch.tensor([[80], [60]])
    hidden = torch.zeros(2, 12, dtype=torch.bool)
    hidden[0, 2:9], hidden[1, 1:5] = True, True
    negatives = elsewhere(hidden, 6)
    wanted = theirs(
        sounds, attention_mask=mask.long(), mask_time_indices=hidden,
        sampled_negative_indices=negatives + torch.tensor([0, 12])[:, None, None],
    )  # fmt: skip
    batch = {"inputs": sounds, "mask": mask, "hidden": hidden, "negatives": negatives}
    objective = HiddenCodes()
    loss = objective(ours, batch)
    assert int(loss.count) == 11
    close(loss.total, wanted.loss, "loss")
    close(HiddenCodes(weight=0.0)(ours, batch).total, wanted.contrastive_loss, "contrastive loss")
    wanted.loss.backward()
    loss.total.backward()
    given = live.as_saved(theirs, gradients(theirs))
    gradients(ours)
    undecided = () if training else ("head.quantizer.score.weight", "head.quantizer.score.bias")
    same_gradients(ours, live.pairs(ours, theirs), given, undecided)


def test_others_are_hidden_frames_of_the_same_sound_each_as_likely():
    hidden = torch.tensor([[0, 1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    drawn = elsewhere(hidden, 3000)
    for row, frames in enumerate(([1, 3, 4, 6], [0, 1])):
        for frame in frames:
            share = drawn[row, frame].bincount(minlength=7) / 3000
            wanted = torch.tensor([(each in frames and each != frame) / (len(frames) - 1) for each in range(7)])
            torch.testing.assert_close(share, wanted, atol=0.05, rtol=0)


SMALL = {"width": 16, "depth": 1, "heads": 2, "hidden": 16, "convs": (8,), "kernels": (4,), "strides": (2,), "samples": 82,
         "places": 4, "groups": 2, "codes": 5, "code_width": 8, "output": 8}  # fmt: skip


def test_stretches_that_are_hidden():
    """Of 40 frames a tenth begin stretches of 3; of 20 real ones 2."""
    model = ef.create("wav2vec2", **SMALL, vocabulary=None)
    mask = torch.arange(82) < torch.tensor([[82], [42]])
    real = model.embedding.real(mask)
    assert real.sum(1).tolist() == [40, 20]
    hidden = HiddenCodes(share=0.1, length=3).hide(model, {"inputs": torch.randn(2, 82), "mask": mask})
    assert not (hidden & ~real).any()
    begun = (hidden & ~torch.nn.functional.pad(hidden, (1, -1))).sum(1)
    assert (begun <= torch.tensor([4, 2])).all()
    assert (hidden.sum(1) <= torch.tensor([12, 6])).all()
    assert (hidden.sum(1) >= 1).all()


def test_a_frame_alone_and_a_code_that_is_the_same_are_no_others():
    model = ef.create("wav2vec2", **SMALL, vocabulary=None).eval()
    model.head.quantizer.score.weight.data.zero_()
    sounds, hidden = torch.randn(1, 82), torch.arange(40)[None] == 3
    alone = HiddenCodes(weight=0.0)(model, {"inputs": sounds, "hidden": hidden})
    same = HiddenCodes(weight=0.0)(model, {"inputs": sounds, "hidden": torch.arange(40)[None] < 9})
    assert alone.total.item() == same.total.item() == 0.0
    whole = HiddenCodes(weight=1.0)(model, {"inputs": sounds, "hidden": hidden})
    assert whole.total.item() == pytest.approx(0.8)  # of 5 codes in each book 1 is used


def test_what_cannot_be_pretrained_is_refused():
    sounds = {"inputs": torch.randn(1, 82)}
    fine_tuned = ef.design("wav2vec2", **SMALL, vocabulary=5)
    with pytest.raises(ef.DoesNotFit, match="hides frames of MaskedWaves; here is WaveConvs"):
        HiddenCodes()(fine_tuned.build(), sounds)
    pretrained = ef.create("wav2vec2", **SMALL, vocabulary=None)
    with pytest.raises(ef.BadInput, match=r"hidden frames as booleans \(1, 40\)"):
        pretrained(**sounds, hidden=torch.zeros(1, 41, dtype=torch.bool))
    ef.swap(pretrained, "head", fine_tuned.get("head"))
    with pytest.raises(ef.DoesNotFit, match=r"give it heads\.CodePredictor"):
        HiddenCodes()(pretrained, sounds)
    with pytest.raises(ef.DoesNotFit, match="3 books share the width; given 8"):
        ef.create("wav2vec2", **SMALL, vocabulary=None, books=3)
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        HiddenCodes(share=0.0)


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
