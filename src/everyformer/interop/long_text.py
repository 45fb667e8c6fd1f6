"""Longformer, BigBird, Nystroemformer and MRA from Hugging Face transformers: BERT's tables with another attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.interop.names import activation, only
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.long_text import bigbird, longformer, mra, nystromformer

KINDS = ("longformer", "bert", "nystromformer", "mra")
"""Where their models hold the body; BigBird's calls it 'bert'."""


@dataclass(frozen=True)
class Rows(Pair):
    """A table of theirs whose first `skipped` rows no token has: positions that begin after the padding's."""

    skipped: int = 2

    def read(self, theirs: Mapping[str, Tensor]) -> Tensor:
        """The rows that tokens have."""
        return super().read(theirs)[self.skipped :]

    def write(self, ours: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Their table, zero where no token looks."""
        return {self.theirs[0]: torch.cat((ours.new_zeros(self.skipped, ours.shape[1]), ours))}


def _shape(config: Any, *, length: int) -> dict[str, Any]:
    return {
        "vocabulary": config.vocab_size,
        "length": length,
        "width": config.hidden_size,
        "hidden": config.intermediate_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "segments": config.type_vocab_size,
        "activation": activation(config.hidden_act),
        "dropout": config.hidden_dropout_prob,
        "eps": config.layer_norm_eps,
    }


def design(model: Any) -> Design:
    """The design of a `LongformerForMaskedLM`, `BigBirdForMaskedLM`, `NystromformerForMaskedLM` or `MraForMaskedLM`.

    A `BigBirdForMaskedLM` in evaluation looks at the first block in place of every random one; ours draws blocks.
    """
    config = model.config
    dropped = config.attention_probs_dropout_prob
    if config.model_type == "longformer":
        only(config, hidden_act="gelu")
        window = config.attention_window
        shape = _shape(config, length=config.max_position_embeddings - config.pad_token_id - 1)
        windows = tuple(window) if isinstance(window, list) else window
        return longformer(**shape, window=windows, leading=0, attention_dropout=dropped)
    if config.model_type == "big_bird":
        only(config, is_decoder=False, rescale_embeddings=False, use_bias=True)
        shape = _shape(config, length=config.max_position_embeddings)
        if config.attention_type == "original_full":
            return bigbird(**shape, block=config.max_position_embeddings, attention_dropout=dropped)
        blocks = {"block": config.block_size, "random": config.num_random_blocks}
        return bigbird(**shape, **blocks, attention_dropout=dropped)
    shape = _shape(config, length=config.max_position_embeddings)
    if config.model_type == "nystromformer":
        landmarks = {"landmarks": config.num_landmarks, "kernel": config.conv_kernel_size}
        return nystromformer(**shape, **landmarks, attention_dropout=dropped)
    only(config, model_type="mra", approx_mode="full")
    return mra(
        **shape, exact=config.block_per_row, first=config.initial_prior_first_n_blocks,
        diagonal=config.initial_prior_diagonal_n_blocks,
    )  # fmt: skip


def pairs(model: Any) -> list[Pair]:
    """Which of our tensors is which of theirs."""
    config = model.config
    body = next(name for name in KINDS if hasattr(model, name))
    first = {"longformer": (config.pad_token_id or 0) + 1, "big_bird": 0}.get(config.model_type, 2)
    table = layer("embedding.table", f"{body}.embeddings.word_embeddings", bias=False)
    positions = "embedding.positions.table.weight", (f"{body}.embeddings.position_embeddings.weight",)
    table.append(Rows(*positions, skipped=first) if first else Pair(*positions))
    table += layer("embedding.segments", f"{body}.embeddings.token_type_embeddings", bias=False)
    table += layer("embedding.norm", f"{body}.embeddings.LayerNorm")
    for i in range(config.num_hidden_layers):
        ours, theirs = f"backbone.blocks.{i}", f"{body}.encoder.layer.{i}"
        own = f"{theirs}.attention.self"
        table += layer(f"{ours}.mixer.qkv", f"{own}.query", f"{own}.key", f"{own}.value")
        if body == "longformer":
            table += layer(
                f"{ours}.mixer.marked_qkv", f"{own}.query_global", f"{own}.key_global", f"{own}.value_global"
            )
        if getattr(config, "conv_kernel_size", None):
            table += layer(f"{ours}.mixer.conv", f"{own}.conv", bias=False)
        table += layer(f"{ours}.mixer.output", f"{theirs}.attention.output.dense")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.attention.output.LayerNorm")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense")
        table += layer(f"{ours}.feedforward.down", f"{theirs}.output.dense")
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.output.LayerNorm")
    if body == "longformer":
        table += layer("head.transform.linear", "lm_head.dense") + layer("head.transform.norm", "lm_head.layer_norm")
        return [*table, Pair("head.project.bias", ("lm_head.bias",))]
    table += layer("head.transform.linear", "cls.predictions.transform.dense")
    table += layer("head.transform.norm", "cls.predictions.transform.LayerNorm")
    return [*table, Pair("head.project.bias", ("cls.predictions.bias",))]


def from_transformers(model: Any) -> Any:
    """Our model with the weights of theirs."""
    made = design(model).build()
    unread = ("position_ids", "pooler.weight", "pooler.bias")
    given = {name: tensor for name, tensor in tensors(model).items() if not name.endswith(unread)}
    fill(made, pairs(model), given)
    return made.train(model.training)
