"""What models of Hugging Face transformers answer, in the form of ours."""

from __future__ import annotations

import torch
from transformers.models.electra.modeling_electra import ElectraForPreTrainingOutput

_ANSWERS = (
    "logits",
    "prediction_logits",
    "projected_states",
    "logits_per_image",
    "image_embeds",
    "text_embeds",
    "pooler_output",
    "last_hidden_state",
    "transformer_decoder_last_hidden_state",
)


def answer_of(output):
    """What a class of theirs answers with."""
    if isinstance(output, ElectraForPreTrainingOutput):
        return output.logits[..., None]
    if type(output).__name__.endswith("MultipleChoiceModelOutput"):
        return output.logits.mT  # the choices of one question are rows of ours
    if "start_logits" in output:
        return torch.stack((output.start_logits, output.end_logits), -1)
    if "pred_boxes" in output:
        return torch.cat((output.logits, output.pred_boxes), -1)
    if "reconstruction" in output:
        return torch.nn.functional.pixel_unshuffle(output.reconstruction, 8).flatten(2).mT  # the pixels of each patch
    if "class_queries_logits" in output:
        named, masks = output.class_queries_logits.softmax(-1)[..., :-1], output.masks_queries_logits.sigmoid()
        return torch.einsum("bqc,bqhw->bchw", named, masks).log()
    if "predicted_depth" in output:
        return output.predicted_depth[:, None]
    return next(output[name] for name in _ANSWERS if output.get(name) is not None)


def real_of(answer, ours, model):
    """Where an answer belongs to a real token."""
    mask = ours.get("target_mask", ours.get("mask"))
    if mask is not None and mask.shape != answer.shape[:2] and "target_mask" not in ours:
        mask = model.features(**ours).mask  # a token may stand for several samples
    return mask if mask is not None and answer.shape[:2] == mask.shape else slice(None)
