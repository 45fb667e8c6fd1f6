"""Positions of Hugging Face's masked autoencoders."""

import torch
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding


def published(model):
    """Columns before rows in both tables, as the published weights have them; a new model of theirs has zeros there."""
    with torch.no_grad():
        for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
            side = int((table.shape[1] - 1) ** 0.5)
            made = build_2d_sinusoidal_position_embedding(side, side, table.shape[-1], cls_token=True)
            table.copy_(made.roll(table.shape[-1] // 2, -1))
    return model
