"""Positions of Hugging Face's masked autoencoders."""

import torch
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding


def published(model):
    """Columns before rows in both tables, as the published weights have them; a new model of theirs has zeros there."""
    with torch.no_grad():
        for name, table in model.named_parameters():
            if not name.endswith(("position_embeddings", "decoder_pos_embed")):
                continue
            side = int((table.shape[1] - 1) ** 0.5)
            made = build_2d_sinusoidal_position_embedding(side, side, table.shape[-1], cls_token=True)
            table.copy_(made.roll(table.shape[-1] // 2, -1))
    return model
