"""A small random model of every class of Hugging Face transformers that can be loaded, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as tf

from support import mra as _mra_kernels  # noqa: F401
from support.agreement import perturb
from support.mae import published
from support.parity import ids, ragged

VOCABULARY, CLASSES = 71, 5
_BODY = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip
_END = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_ENCODER = {**_BODY, "max_position_embeddings": 24, "pad_token_id": 0, "num_labels": CLASSES}
_TWO = {**_ENCODER, "num_labels": 2}
_DECODER = {**_BODY, **_END, "num_labels": CLASSES}
_ROBERTA = {**_ENCODER, "pad_token_id": 1, "type_vocab_size": 1}
_LONGFORMER = {**_ROBERTA, "type_vocab_size": 2, "attention_window": [4, 8]}
_ALBERT = {**_ENCODER, "embedding_size": 20}
_FNET = {**{name: value for name, value in _ENCODER.items() if name != "num_attention_heads"}, "type_vocab_size": 2}
_BIGBIRD = {**_ENCODER, "attention_type": "original_full"}
_NYSTROMFORMER = {**_ENCODER, "num_landmarks": 6, "segment_means_seq_len": 24, "conv_kernel_size": 5}
_MRA = {
    **_ENCODER, "hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": 128, "block_per_row": 2,
    "initial_prior_diagonal_n_blocks": 1,
}  # fmt: skip
_YOSO = {**_ENCODER, "conv_window": 3, "hash_code_len": 4}
_DISTILBERT = {
    "vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 24,
    "num_labels": CLASSES,
}  # fmt: skip
_BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "num_labels": CLASSES, **_END}
_GPT2 = {"vocab_size": VOCABULARY, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "num_labels": 5, **_END}
_REFORMER = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "attention_head_size": 6, "feed_forward_size": 48,
    "attn_layers": ["local", "lsh"], "axial_pos_shape": [4, 8], "axial_pos_embds_dim": [12, 20], "is_decoder": True,
    "max_position_embeddings": 32, "num_buckets": [2, 4], "num_hashes": 2, "hash_seed": 3, "local_attn_chunk_length": 16,
    "lsh_attn_chunk_length": 32,
}  # fmt: skip
_MODERNBERT = {
    **_ENCODER, **_END, "cls_token_id": 1, "sep_token_id": 2, "num_hidden_layers": 3, "global_attn_every_n_layers": 2,
    "local_attention": 4,
}  # fmt: skip
_LLAMA = {**_DECODER, "num_key_value_heads": 2, "max_position_embeddings": 64}
_GEMMA = {
    **_LLAMA, "head_dim": 12, "query_pre_attn_scalar": 10, "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip
_GRIFFIN = {
    **_BODY, **_END, "num_hidden_layers": 4, "num_key_value_heads": 1, "attention_window_size": 5, "logits_soft_cap": 3.0,
}  # fmt: skip
_STRETCHED = {
    "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
_T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 10, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 2,
    "num_heads": 4, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
_BART = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 24,
    "decoder_start_token_id": 0, "forced_eos_token_id": None, "num_labels": 2, **_END,
}  # fmt: skip
_LED = {
    **{name: value for name, value in _BART.items() if name != "max_position_embeddings"}, "attention_window": [4, 8],
    "max_encoder_position_embeddings": 24, "max_decoder_position_embeddings": 20,
}  # fmt: skip
_PATCHES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 5,
}
_VIT = {**_PATCHES, "image_size": 16, "patch_size": 8}
_OFFSETS = {"use_relative_position_bias": True, "use_absolute_position_embeddings": False, "use_mean_pooling": True}
_BEIT_SEGMENTING = {
    **_VIT, **_OFFSETS, "image_size": 32, "num_hidden_layers": 5, "out_indices": [2, 3, 4, 5], "pool_scales": [1, 2],
    "auxiliary_channels": 8,
}  # fmt: skip
_CLIP = {
    "vision_config": {**_VIT, "hidden_act": "gelu"}, "projection_dim": 12,
    "text_config": {
        **_ENCODER, "intermediate_size": 40, "eos_token_id": 70, "bos_token_id": 1, "projection_dim": 12,
    },
}  # fmt: skip
_GIT = {
    **_BODY, **_END, "max_position_embeddings": 24,
    "vision_config": {**_VIT, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40},
}  # fmt: skip
_SIGLIP = {"vision_config": _VIT, "text_config": _ENCODER, "num_labels": CLASSES}
_PYRAMID = {"depths": [1, 2], "image_size": 32, "num_labels": CLASSES}
_SWIN = {**_PYRAMID, "patch_size": 2, "embed_dim": 16, "num_heads": [2, 4], "window_size": 4}
_SWIN_HIDING = {**_SWIN, "patch_size": 4, "encoder_stride": 8}
_MASK2FORMER = {
    "backbone_config": {
        **_SWIN, "model_type": "swin", "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 4],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 64, "mask_feature_size": 64, "hidden_dim": 64, "encoder_feedforward_dim": 48, "encoder_layers": 2,
    "decoder_layers": 5, "num_attention_heads": 4, "dim_feedforward": 40, "num_queries": 6, "num_labels": CLASSES,
}  # fmt: skip
_CONVNEXT = {**_PYRAMID, "hidden_sizes": [8, 16], "num_stages": 2, "layer_scale_init_value": 0.5}
_POOLFORMER = {
    "depths": [1, 2], "hidden_sizes": [8, 16], "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2],
    "padding": [2, 1], "layer_scale_init_value": 0.5, "num_labels": CLASSES,
}  # fmt: skip
_PVT = {
    "hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1], "num_attention_heads": [1, 2, 3, 4], "image_size": 32,
    "num_labels": CLASSES,
}  # fmt: skip
_MIT = {name: value for name, value in _PVT.items() if name not in ("image_size", "num_labels")}
_DPT = {
    **_PATCHES, "image_size": 32, "patch_size": 8, "backbone_out_indices": [0, 1], "neck_hidden_sizes": [8, 12],
    "reassemble_factors": [2, 0.5], "fusion_hidden_size": 16,
}  # fmt: skip
_DETR = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "d_model": 16, "encoder_layers": 1,
    "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "num_queries": 5, "num_labels": 3,
    "backbone_config": {
        "model_type": "resnet", "embedding_size": 4, "hidden_sizes": [16, 32], "depths": [1, 2],
        "out_features": ["stage2"], "layer_type": "bottleneck",
    },
}  # fmt: skip
_CVT = {"embed_dim": [8, 16, 24], "depth": [1, 2, 3], "num_heads": [1, 2, 3], "num_labels": CLASSES}
_MAE = {
    **_VIT, "image_size": 32, "decoder_hidden_size": 24, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 96,
}  # fmt: skip
_WHISPER = {
    **{name: value for name, value in _BART.items() if name != "max_position_embeddings"}, "max_source_positions": 20,
    "max_target_positions": 24, "num_mel_bins": 8,
}  # fmt: skip
_CODES = {"codevector_dim": 12, "num_codevector_groups": 3, "num_codevectors_per_group": 5, "proj_codevector_dim": 10}
_SPEAKING = {"tdnn_dim": (8, 12), "tdnn_kernel": (2, 3), "tdnn_dilation": (1, 2), "xvector_output_dim": 10}
_WAVES = {
    **_BODY, "conv_dim": (8, 12), "conv_stride": (3, 2), "conv_kernel": (5, 3), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "num_labels": CLASSES, "classifier_proj_size": 16,
}  # fmt: skip
_LAYERED = {**_WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_SOUND = {"max_length": 37, "num_mel_bins": 20, "patch_size": 8, "frequency_stride": 5, "time_stride": 5}


@dataclass(frozen=True)
class Case:
    """One class with one config."""

    name: str
    """Their class."""
    config: str
    options: dict[str, Any]
    given: Callable[[], tuple[dict[str, Any], dict[str, Any]]]
    """What ours takes, and what theirs takes."""
    change: Callable[[Any], Any] = lambda model: model
    """What is done to the model that no config says."""
    std: float = 0.2
    """How far every parameter is moved from where it starts."""

    def make(self) -> Any:
        """The model, random."""
        torch.manual_seed(0)
        return perturb(self.change(getattr(tf, self.name)(getattr(tf, self.config)(**self.options))), std=self.std)


def untied(model: Any) -> Any:
    """An output map that is made tied gets weights of its own."""
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model


def text() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sequences of different lengths."""
    inputs, mask = ids(VOCABULARY, 3, 13), ragged(3, 13)
    inputs = inputs.masked_fill(~mask, 0)
    return {"inputs": inputs, "mask": mask}, {"input_ids": inputs, "attention_mask": mask.long()}


def text_after_padding() -> tuple[dict[str, Any], dict[str, Any]]:
    """The same where the id of padding is 1, and all others come after."""
    inputs, mask = ids(VOCABULARY - 1, 3, 13) + 1, ragged(3, 13)
    inputs = inputs.masked_fill(~mask, 1)
    return {"inputs": inputs, "mask": mask}, {"input_ids": inputs, "attention_mask": mask.long()}


def pairs_of_text() -> tuple[dict[str, Any], dict[str, Any]]:
    """The same with segments."""
    ours, theirs = text()
    segments = ids(3, 3, 13, seed=5) - 1
    return {**ours, "segments": segments}, {**theirs, "token_type_ids": segments}


def marked_text() -> tuple[dict[str, Any], dict[str, Any]]:
    """The first and some other tokens see all."""
    ours, theirs = text_after_padding()
    marked = (torch.rand(3, 13, generator=torch.Generator().manual_seed(3)) < 0.2) & ours["mask"]
    marked[:, 0] = True
    return {**ours, "marked": marked}, {**theirs, "global_attention_mask": marked.long()}


def _of_one_question(given: tuple[dict[str, Any], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    ours, theirs = given
    return ours, {name: value[None] for name, value in theirs.items()}


def choices() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sequences of different lengths, one of which answers."""
    return _of_one_question(text())


def choices_after_padding() -> tuple[dict[str, Any], dict[str, Any]]:
    """The same where the id of padding is 1."""
    return _of_one_question(text_after_padding())


def marked_choices() -> tuple[dict[str, Any], dict[str, Any]]:
    """The same with marked tokens."""
    return _of_one_question(marked_text())


def whole_choices(length: int) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    """Sequences of one length, one of which answers."""
    return lambda: _of_one_question(whole_text(3, length)())


def whole_text(batch: int, length: int) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    """Sequences of one length."""

    def given() -> tuple[dict[str, Any], dict[str, Any]]:
        inputs, mask = ids(VOCABULARY, batch, length), torch.ones(batch, length, dtype=torch.bool)
        return {"inputs": inputs, "mask": mask}, {"input_ids": inputs, "attention_mask": mask.long()}

    return given


def translation() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sources and targets of different lengths."""
    ours, theirs = text()
    target, mask = ids(VOCABULARY, 3, 10, seed=4), ragged(3, 10)
    return (
        {**ours, "target": target, "target_mask": mask},
        {**theirs, "decoder_input_ids": target, "decoder_attention_mask": mask.long()},
    )


def the_same_again(end: int) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    """Sources that end with a token that they have nowhere else, and the same moved by one place as targets."""

    def given() -> tuple[dict[str, Any], dict[str, Any]]:
        ours, _ = text()
        inputs, mask = ours["inputs"].masked_fill(ours["inputs"] == end, 3), ours["mask"]
        inputs[torch.arange(3), mask.sum(1) - 1] = end
        target = torch.nn.functional.pad(inputs, (1, -1))
        return (
            {"inputs": inputs, "mask": mask, "target": target, "target_mask": mask},
            {
                "input_ids": inputs,
                "attention_mask": mask.long(),
                "decoder_input_ids": target,
                "decoder_attention_mask": mask.long(),
            },
        )

    return given


def marked_translation() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sources of which some tokens see all, and targets."""
    ours, theirs = translation()
    marked = (torch.rand(3, 13, generator=torch.Generator().manual_seed(3)) < 0.2) & ours["mask"]
    marked[:, 0] = True
    return {**ours, "marked": marked}, {**theirs, "global_attention_mask": marked.long()}


def waves() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sounds of different lengths."""
    given, mask = whole_waves()[0]["inputs"], ragged(3, 80).clone()
    mask[1, 70:], mask[2, 47:] = False, False
    given = given * mask
    return {"inputs": given, "mask": mask}, {"input_values": given, "attention_mask": mask.long()}


def whole_waves() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sounds of one length: where a norm is taken over time, theirs counts padding."""
    given = torch.randn(3, 80, generator=torch.Generator().manual_seed(2))
    return {"inputs": given}, {"input_values": given}


def hidden(
    sounds: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
) -> Callable[[], tuple[dict[str, Any], dict[str, Any]]]:
    """The same sounds, of which a stretch of frames is hidden."""

    def given() -> tuple[dict[str, Any], dict[str, Any]]:
        ours, theirs = sounds()
        frames = torch.zeros(3, 12, dtype=torch.bool)
        frames[0, 5:9], frames[1, 2:4], frames[2, 1:6] = True, True, True
        return {**ours, "hidden": frames}, {**theirs, "mask_time_indices": frames}

    return given


def speech() -> tuple[dict[str, Any], dict[str, Any]]:
    """Spectrograms, and what is said."""
    given = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(2))
    target, mask = ids(VOCABULARY, 3, 10, seed=4), ragged(3, 10)
    return (
        {"inputs": given, "target": target, "target_mask": mask},
        {"input_features": given.mT, "decoder_input_ids": target, "decoder_attention_mask": mask.long()},
    )


def short_speech() -> tuple[dict[str, Any], dict[str, Any]]:
    """Spectrograms alone."""
    given = speech()[0]["inputs"]
    return {"inputs": given}, {"input_features": given.mT}


def pictures(side: int = 16, batch: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures."""
    given = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))
    return {"inputs": given}, {"pixel_values": given}


def filled_in() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures of which some patches are hidden."""
    ours, theirs = pictures()
    hidden = torch.tensor([[True, False, True, True], [False, False, True, False]])
    return {**ours, "hidden": hidden}, {**theirs, "bool_masked_pos": hidden}


def large_pictures_filled_in() -> tuple[dict[str, Any], dict[str, Any]]:
    """Larger pictures of which every third patch is hidden."""
    ours, theirs = pictures(32)
    hidden = (torch.arange(2 * 64) % 3 == 0).unflatten(0, (2, 64))
    return {**ours, "hidden": hidden}, {**theirs, "bool_masked_pos": hidden}


def pictures_in_order() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures of which all is seen, and theirs is told not to shuffle the patches."""
    ours, theirs = pictures(32)
    return ours, {**theirs, "noise": torch.arange(16.0).expand(2, -1)}


def large_pictures() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures for pyramids."""
    return pictures(32)


def ended_text() -> tuple[dict[str, Any], dict[str, Any]]:
    """Sequences of different lengths that end with token 70."""
    inputs, mask = ids(70, 3, 13), ragged(3, 13)
    inputs[torch.arange(3), mask.sum(1) - 1] = 70
    inputs = inputs.masked_fill(~mask, 0)
    return {"inputs": inputs, "mask": mask}, {"input_ids": inputs, "attention_mask": mask.long()}


def pictures_and_texts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures, and texts that end with token 70."""
    ours, theirs = pictures()
    mine, yours = ended_text()
    return {**ours, "texts": mine["inputs"], "texts_mask": mine["mask"]}, {**theirs, **yours}


def pictures_and_whole_texts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures, and texts that are filled up to one length."""
    ours, theirs = pictures()
    texts = ids(VOCABULARY, 3, 24)
    return {**ours, "texts": texts}, {**theirs, "input_ids": texts}


def captions() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures, and what is said of them."""
    ours, theirs = pictures(batch=3)
    said, asked = text()
    return {**ours, "target": said["inputs"], "target_mask": said["mask"]}, {**theirs, **asked}


def hidden_pictures() -> tuple[dict[str, Any], dict[str, Any]]:
    """Pictures of which most is hidden."""
    ours, theirs = pictures(32)
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(3))
    return {**ours, "noise": noise}, {**theirs, "noise": noise}


def sound() -> tuple[dict[str, Any], dict[str, Any]]:
    """Spectrograms."""
    given = torch.randn(2, 37, 20, generator=torch.Generator().manual_seed(2))
    return {"inputs": given}, {"input_values": given}


def _all(names: str, config: str, options: dict[str, Any], given: Any) -> list[Case]:
    return [Case(name, config, options, given) for name in names.split()]


def _every(name: str) -> str:
    """The classes that every relative of Llama has."""
    tops = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
    return " ".join(f"{name}{top}" for top in tops)


_SCALED = {
    "rope_type": "llama3", "rope_theta": 5000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
CASES = [
    *_all(
        "BertModel BertForMaskedLM BertForSequenceClassification BertForTokenClassification",
        "BertConfig", _ENCODER, pairs_of_text,
    ),
    *_all(
        "BertForNextSentencePrediction BertForPreTraining BertForQuestionAnswering", "BertConfig", _TWO, pairs_of_text
    ),
    *_all("AlbertModel AlbertForMaskedLM AlbertForTokenClassification", "AlbertConfig", _ALBERT, pairs_of_text),
    *_all(
        "AlbertForPreTraining AlbertForSequenceClassification AlbertForQuestionAnswering",
        "AlbertConfig", {**_ALBERT, "num_labels": 2}, pairs_of_text,
    ),
    *_all(
        "FNetModel FNetForMaskedLM FNetForSequenceClassification FNetForTokenClassification",
        "FNetConfig", _FNET, whole_text(3, 13),
    ),
    *_all(
        "FNetForNextSentencePrediction FNetForPreTraining FNetForQuestionAnswering",
        "FNetConfig", {**_FNET, "num_labels": 2}, whole_text(3, 13),
    ),
    Case("BertLMHeadModel", "BertConfig", {**_ENCODER, **_END, "is_decoder": True}, text),
    Case("RobertaForCausalLM", "RobertaConfig", {**_ROBERTA, "is_decoder": True}, text_after_padding),
    Case("ElectraForCausalLM", "ElectraConfig", {**_ENCODER, **_END, "embedding_size": 20, "is_decoder": True}, text),
    Case("BigBirdForCausalLM", "BigBirdConfig", {**_BIGBIRD, **_END, "is_decoder": True}, text),
    Case("BertForMultipleChoice", "BertConfig", _ENCODER, choices),
    Case("AlbertForMultipleChoice", "AlbertConfig", _ALBERT, choices),
    Case("RobertaForMultipleChoice", "RobertaConfig", _ROBERTA, choices_after_padding),
    Case("LongformerForMultipleChoice", "LongformerConfig", _LONGFORMER, marked_choices),
    Case("BigBirdForMultipleChoice", "BigBirdConfig", _BIGBIRD, choices),
    Case("FNetForMultipleChoice", "FNetConfig", _FNET, whole_choices(13)),
    Case("NystromformerForMultipleChoice", "NystromformerConfig", {**_NYSTROMFORMER, "segment_means_seq_len": 6},
         whole_choices(13)),
    Case("MraForMultipleChoice", "MraConfig", _MRA, whole_choices(128)),
    Case("YosoForMultipleChoice", "YosoConfig", _YOSO, whole_choices(13)),
    Case("DistilBertForMultipleChoice", "DistilBertConfig", _DISTILBERT, choices),
    Case("ElectraForMultipleChoice", "ElectraConfig", {**_ENCODER, "embedding_size": 20}, choices),
    Case("ModernBertForMultipleChoice", "ModernBertConfig", _MODERNBERT, choices),
    *_all(
        "RobertaModel RobertaForMaskedLM RobertaForSequenceClassification RobertaForTokenClassification",
        "RobertaConfig", _ROBERTA, text_after_padding,
    ),
    *_all("RobertaForQuestionAnswering", "RobertaConfig", {**_ROBERTA, "num_labels": 2}, text_after_padding),
    *_all(
        "LongformerModel LongformerForMaskedLM LongformerForSequenceClassification LongformerForTokenClassification",
        "LongformerConfig", _LONGFORMER, marked_text,
    ),
    *_all("LongformerForQuestionAnswering", "LongformerConfig", {**_LONGFORMER, "num_labels": 2}, marked_text),
    *_all(
        "BigBirdModel BigBirdForMaskedLM BigBirdForSequenceClassification BigBirdForTokenClassification",
        "BigBirdConfig", _BIGBIRD, pairs_of_text,
    ),
    *_all("BigBirdForPreTraining BigBirdForQuestionAnswering", "BigBirdConfig", {**_BIGBIRD, "num_labels": 2}, pairs_of_text),
    Case("BigBirdForMaskedLM", "BigBirdConfig", {**_BIGBIRD, "attention_type": "block_sparse", "block_size": 4}, text),
    *_all(
        "NystromformerModel NystromformerForMaskedLM NystromformerForSequenceClassification "
        "NystromformerForTokenClassification",
        "NystromformerConfig", _NYSTROMFORMER, whole_text(1, 24),  # theirs shares figures between samples
    ),
    Case(
        "NystromformerForMaskedLM", "NystromformerConfig", {**_NYSTROMFORMER, "segment_means_seq_len": 6},
        whole_text(3, 13),
    ),
    *_all("NystromformerForQuestionAnswering", "NystromformerConfig", {**_NYSTROMFORMER, "num_labels": 2}, whole_text(1, 24)),
    *_all(
        "MraModel MraForMaskedLM MraForSequenceClassification MraForTokenClassification",
        "MraConfig", _MRA, whole_text(2, 128),
    ),
    *_all("MraForQuestionAnswering", "MraConfig", {**_MRA, "num_labels": 2}, whole_text(2, 128)),
    *_all(
        "YosoModel YosoForMaskedLM YosoForSequenceClassification YosoForTokenClassification",
        "YosoConfig", _YOSO, whole_text(3, 13),  # theirs counts padding
    ),
    *_all("YosoForQuestionAnswering", "YosoConfig", {**_YOSO, "num_labels": 2}, whole_text(3, 13)),
    *_all(
        "DistilBertModel DistilBertForMaskedLM DistilBertForSequenceClassification DistilBertForTokenClassification",
        "DistilBertConfig", _DISTILBERT, text,
    ),
    *_all("DistilBertForQuestionAnswering", "DistilBertConfig", {**_DISTILBERT, "num_labels": 2}, text),
    *_all(
        "ElectraForPreTraining ElectraModel ElectraForMaskedLM ElectraForSequenceClassification "
        "ElectraForTokenClassification",
        "ElectraConfig", {**_ENCODER, "embedding_size": 20, "hidden_act": "relu"}, pairs_of_text,
    ),
    *_all("ElectraForQuestionAnswering ElectraForPreTraining", "ElectraConfig", {**_TWO, "embedding_size": 32}, pairs_of_text),
    *_all(
        "ModernBertForMaskedLM ModernBertModel ModernBertForSequenceClassification ModernBertForTokenClassification",
        "ModernBertConfig", _MODERNBERT, text,
    ),
    Case(
        "ModernBertForSequenceClassification", "ModernBertConfig", {**_MODERNBERT, "classifier_pooling": "mean"}, text
    ),
    Case("ModernBertForQuestionAnswering", "ModernBertConfig", {**_MODERNBERT, "num_labels": 2}, text),
    *_all(_every("Bloom"), "BloomConfig", _BLOOM, text),
    Case("BloomForCausalLM", "BloomConfig", {**_BLOOM, "n_head": 3, "hidden_size": 24}, text),
    *_all(
        "GPT2LMHeadModel GPT2Model GPT2ForSequenceClassification GPT2ForTokenClassification GPT2ForQuestionAnswering",
        "GPT2Config",
        _GPT2, text,
    ),
    Case("GPT2DoubleHeadsModel", "GPT2Config", _GPT2, whole_text(3, 13)),
    *_all(
        "LlamaForCausalLM LlamaModel LlamaForSequenceClassification LlamaForTokenClassification LlamaForQuestionAnswering",
        "LlamaConfig", _LLAMA, text,
    ),
    Case("LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "rope_parameters": _SCALED, "tie_word_embeddings": True}, text),
    Case("LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "head_dim": 12, "attention_bias": True}, text),
    *_all(
        "OPTForCausalLM OPTModel OPTForSequenceClassification OPTForQuestionAnswering",
        "OPTConfig",
        {
            "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48,
            "max_position_embeddings": 24, "word_embed_proj_dim": 32, "num_labels": 5, **_END,
        },
        text,
    ),
    *_all(_every("GPTNeoX"), "GPTNeoXConfig", _DECODER, text),
    *_all(_every("Mistral"), "MistralConfig", {**_LLAMA, "sliding_window": 4}, text),
    Case("MistralForCausalLM", "MistralConfig", {**_LLAMA, "sliding_window": None, "head_dim": 12}, text),
    *_all(_every("Qwen2"), "Qwen2Config", _LLAMA, text),
    *_all(_every("Qwen3"), "Qwen3Config", {**_LLAMA, "head_dim": 12}, text),
    Case("Qwen3ForCausalLM", "Qwen3Config", {**_LLAMA, "attention_bias": True, "tie_word_embeddings": True}, text),
    *_all(
        "Gemma2ForCausalLM Gemma2Model Gemma2ForSequenceClassification Gemma2ForTokenClassification",
        "Gemma2Config", {**_GEMMA, "attn_logit_softcapping": 2.0}, text,
    ),
    *_all("RecurrentGemmaForCausalLM RecurrentGemmaModel", "RecurrentGemmaConfig", _GRIFFIN, whole_text(3, 13)),
    *_all("Gemma3ForCausalLM Gemma3TextModel Gemma3TextForSequenceClassification", "Gemma3TextConfig", _GEMMA, text),
    Case("Gemma3ForCausalLM", "Gemma3TextConfig", {**_GEMMA, "rope_parameters": _STRETCHED}, text),
    Case("T5ForConditionalGeneration", "T5Config", _T5, translation),
    Case("T5ForConditionalGeneration", "T5Config", {**_T5, "tie_word_embeddings": False}, translation),
    Case(
        "T5ForConditionalGeneration", "T5Config",
        {**_T5, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}, translation, untied,
    ),
    *_all("T5Model T5ForQuestionAnswering", "T5Config", _T5, translation),
    Case("T5ForSequenceClassification", "T5Config", {**_T5, "num_labels": CLASSES}, the_same_again(1)),
    *_all("T5EncoderModel T5ForTokenClassification", "T5Config", {**_T5, "num_labels": CLASSES}, text),
    *_all("MT5ForConditionalGeneration MT5Model MT5ForQuestionAnswering", "MT5Config", _T5, translation),
    Case("MT5ForSequenceClassification", "MT5Config", {**_T5, "num_labels": CLASSES}, the_same_again(1)),
    *_all("MT5EncoderModel MT5ForTokenClassification", "MT5Config", {**_T5, "num_labels": CLASSES}, text),
    *_all("BartForConditionalGeneration BartModel BartForQuestionAnswering", "BartConfig", _BART, translation),
    Case("BartForConditionalGeneration", "BartConfig", {**_BART, "scale_embedding": True, "encoder_layers": 3}, translation),
    Case("BartForSequenceClassification", "BartConfig", {**_BART, "num_labels": CLASSES}, the_same_again(2)),
    *_all("MBartForConditionalGeneration MBartModel MBartForQuestionAnswering", "MBartConfig", _BART, translation),
    Case("MBartForSequenceClassification", "MBartConfig", {**_BART, "num_labels": CLASSES}, the_same_again(2)),
    *_all("MarianMTModel MarianModel", "MarianConfig", {**_BART, "activation_function": "swish"}, translation),
    *_all("LEDForConditionalGeneration LEDModel LEDForQuestionAnswering", "LEDConfig", _LED, marked_translation),
    Case("BartForCausalLM", "BartConfig", _BART, whole_text(3, 13)),
    Case("MBartForCausalLM", "MBartConfig", _BART, whole_text(3, 13)),
    Case("MarianForCausalLM", "MarianConfig", {**_BART, "activation_function": "swish"}, whole_text(3, 13)),
    *_all("DiffLlamaForCausalLM DiffLlamaModel DiffLlamaForTokenClassification", "DiffLlamaConfig", _LLAMA, text),
    *_all(
        "ReformerModelWithLMHead ReformerModel ReformerForSequenceClassification", "ReformerConfig",
        {**_REFORMER, "num_labels": CLASSES}, text,
    ),
    Case("ReformerForQuestionAnswering", "ReformerConfig", {**_REFORMER, "num_labels": 2}, text),
    *_all("ReformerForMaskedLM ReformerModel", "ReformerConfig",
          {**_REFORMER, "is_decoder": False, "attn_layers": ["lsh", "lsh"]}, text),
    Case("ReformerModelWithLMHead", "ReformerConfig", {**_REFORMER, "axial_pos_embds": False, "num_buckets": 8}, text),
    *_all("ViTForImageClassification ViTModel", "ViTConfig", _VIT, pictures),
    Case("ViTForImageClassification", "ViTConfig", {**_VIT, "qkv_bias": False, "hidden_act": "gelu_new"}, pictures),
    *_all("SwinForImageClassification SwinModel", "SwinConfig", _SWIN, large_pictures),
    Case("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", _MASK2FORMER, large_pictures, std=0.1),
    Case("Mask2FormerModel", "Mask2FormerConfig", _MASK2FORMER, large_pictures, std=0.1),
    Case("SwinForImageClassification", "SwinConfig", {**_SWIN, "qkv_bias": False, "depths": [2, 1]}, large_pictures),
    Case("SwinForMaskedImageModeling", "SwinConfig", _SWIN_HIDING, large_pictures_filled_in),
    Case("Swinv2ForMaskedImageModeling", "Swinv2Config", _SWIN_HIDING, large_pictures_filled_in),
    *_all("Swinv2ForImageClassification Swinv2Model", "Swinv2Config", _SWIN, large_pictures),
    Case("Swinv2ForImageClassification", "Swinv2Config", {**_SWIN, "pretrained_window_sizes": [3, 2]}, large_pictures),
    *_all("ConvNextForImageClassification ConvNextModel", "ConvNextConfig", _CONVNEXT, large_pictures),
    Case("ViTForMaskedImageModeling", "ViTConfig", {**_VIT, "encoder_stride": 8}, filled_in),
    Case("DeiTForMaskedImageModeling", "DeiTConfig", {**_VIT, "encoder_stride": 8}, filled_in),
    *_all("DeiTForImageClassification DeiTModel", "DeiTConfig", _VIT, pictures),
    *_all("BeitForImageClassification BeitModel", "BeitConfig", {**_VIT, **_OFFSETS}, pictures),
    Case("BeitForSemanticSegmentation", "BeitConfig", _BEIT_SEGMENTING, large_pictures),
    *_all("PoolFormerForImageClassification PoolFormerModel", "PoolFormerConfig", _POOLFORMER, large_pictures),
    *_all("PvtForImageClassification PvtModel", "PvtConfig", _PVT, large_pictures),
    *_all("PvtV2ForImageClassification PvtV2Model", "PvtV2Config", {**_PVT, "qkv_bias": False}, large_pictures),
    *_all("SegformerForImageClassification SegformerModel", "SegformerConfig", _PVT, large_pictures),
    Case("SegformerForSemanticSegmentation", "SegformerConfig", {**_PVT, "decoder_hidden_size": 16}, large_pictures),
    *_all("GLPNForDepthEstimation GLPNModel", "GLPNConfig", {**_MIT, "decoder_hidden_size": 16, "max_depth": 7}, large_pictures),
    *_all("DPTForDepthEstimation DPTForSemanticSegmentation DPTModel", "DPTConfig", _DPT, large_pictures),
    Case("DPTForSemanticSegmentation", "DPTConfig", {**_DPT, "use_batch_norm_in_fusion_residual": True}, large_pictures),
    *_all("DetrForObjectDetection DetrModel", "DetrConfig", _DETR, large_pictures),
    *_all("CvtForImageClassification CvtModel", "CvtConfig", _CVT, large_pictures),
    Case("SiglipModel", "SiglipConfig", _SIGLIP, pictures_and_whole_texts),
    Case("SiglipForImageClassification", "SiglipConfig", _SIGLIP, pictures),
    Case("SiglipVisionModel", "SiglipVisionConfig", _VIT, pictures),
    Case("SiglipVisionModel", "SiglipVisionConfig", {**_VIT, "vision_use_head": False}, pictures),
    Case("SiglipTextModel", "SiglipTextConfig", {**_ENCODER, "projection_size": 20}, whole_text(3, 24)),
    Case("CLIPModel", "CLIPConfig", _CLIP, pictures_and_texts),
    Case("CLIPForImageClassification", "CLIPConfig", _CLIP, pictures),
    *_all("CLIPVisionModel CLIPVisionModelWithProjection", "CLIPVisionConfig", {**_VIT, "projection_dim": 12}, pictures),
    *_all("CLIPTextModel CLIPTextModelWithProjection", "CLIPTextConfig", _CLIP["text_config"], ended_text),
    *_all("GitForCausalLM GitModel", "GitConfig", _GIT, captions),
    Case("GitVisionModel", "GitVisionConfig", _GIT["vision_config"], pictures),
    Case("GitForCausalLM", "GitConfig", {**_GIT, "tie_word_embeddings": True}, captions),
    Case("ViTMAEForPreTraining", "ViTMAEConfig", _MAE, hidden_pictures, published),
    Case("ViTMAEModel", "ViTMAEConfig", {**_MAE, "mask_ratio": 0.0}, pictures_in_order, published),
    *_all("Wav2Vec2ForCTC Wav2Vec2Model Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", _WAVES, whole_waves),
    *_all(
        "Wav2Vec2ForCTC Wav2Vec2ForSequenceClassification Wav2Vec2ForAudioFrameClassification",
        "Wav2Vec2Config", _LAYERED, waves,
    ),
    Case("Wav2Vec2ForXVector", "Wav2Vec2Config", {**_WAVES, **_SPEAKING}, whole_waves),
    Case("Wav2Vec2ForXVector", "Wav2Vec2Config", {**_LAYERED, **_SPEAKING, "tdnn_dilation": (1, 1)}, waves),
    Case("Wav2Vec2ForPreTraining", "Wav2Vec2Config", {**_WAVES, **_CODES}, hidden(whole_waves)),
    Case("Wav2Vec2ForPreTraining", "Wav2Vec2Config", {**_LAYERED, **_CODES}, hidden(waves)),
    Case("HubertForCTC", "HubertConfig", _WAVES, whole_waves),
    *_all("HubertModel HubertForSequenceClassification", "HubertConfig", _LAYERED, waves),
    *_all("WhisperForConditionalGeneration WhisperModel", "WhisperConfig", _WHISPER, speech),
    Case("WhisperForAudioClassification", "WhisperConfig", {**_WHISPER, "num_labels": CLASSES}, short_speech),
    Case("WhisperForCausalLM", "WhisperConfig", _WHISPER, whole_text(3, 13)),
    *_all("ASTForAudioClassification ASTModel", "ASTConfig", {**_PATCHES, **_SOUND}, sound),
]  # fmt: skip


def ids_of(cases: list[Case]) -> list[str]:
    """Names for pytest: the class, and what of the options sets a case apart."""
    plain: dict[str, dict[str, Any]] = {}
    named = []
    for case in cases:
        first = plain.setdefault(case.name, case.options)
        changed = [
            f"{k}={v if not isinstance(v, dict) else '...'}" for k, v in case.options.items() if first.get(k) != v
        ]
        named.append(" ".join([case.name, *changed]))
    return named


def one_of_each() -> list[Case]:
    """The first case of every config."""
    return list({case.config: case for case in reversed(CASES)}.values())[::-1]
