"""Informer and the Time Series Transformer of Hugging Face transformers, which say distributions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from everyformer.designs import Design
from everyformer.interop import bart
from everyformer.interop.config import Always, Config, Custom, Depth, Key, Setting, Written
from everyformer.interop.family import Family, Top, register
from everyformer.interop.names import ACTIVATIONS
from everyformer.interop.weights import Pair, batch_norm, layer
from everyformer.models import DeviationScale, MeanScale, NoScale
from everyformer.published.informer import DISTRIBUTIONS, drawing_informer
from everyformer.specs import spec

ENCODE, DECODE = "encoder.stages.*.blocks.*", "decoder.blocks.*"
SCALINGS = {"mean": MeanScale, True: MeanScale, "std": DeviationScale, None: NoScale, False: NoScale}
"""By what theirs calls them; the first name of each is the one that is written."""
LAGS = (1, 2, 3, 4, 5, 6, 7)


def known(config: Config) -> dict[str, Any]:
    """What is known of a step and of a series."""
    horizon, lags = config.value("prediction_length"), tuple(config.get("lags_sequence") or LAGS)
    counted = config.get("num_static_categorical_features", 0)
    cards = config.get("cardinality") or ()
    sizes = config.get("embedding_dimension") or [min(50, (each + 1) // 2) for each in cards]
    return {
        "horizon": horizon,
        "lookback": (config.get("context_length") or horizon) + max(lags),
        "lags": lags,
        "stamps": config.get("num_time_features", 0) + config.get("num_dynamic_real_features", 0),
        "facts": config.get("num_static_real_features", 0),
        "kinds": tuple(zip(cards, sizes, strict=True)) if counted else (),
        "scaling": spec(SCALINGS[config.get("scaling", "mean")]),
    }


def write_known(design: Design) -> dict[str, Any]:
    """The same; all stamps are said to be of time."""
    whole = design.spec
    kinds = whole.get("kinds")
    said: dict[str, Any] = {
        "prediction_length": whole.get("horizon"),
        "context_length": whole.get("lookback") - max(whole.get("lags")),
        "lags_sequence": list(whole.get("lags")),
        "num_time_features": whole.get("marks"),
        "num_static_real_features": whole.get("facts"),
        "num_static_categorical_features": len(kinds),
        "scaling": next(name for name, part in SCALINGS.items() if part is whole.get("scaling").part),
    }
    if kinds:
        said |= {"cardinality": [count for count, _ in kinds], "embedding_dimension": [size for _, size in kinds]}
    return said


def distribution(config: Config) -> dict[str, Any]:
    """The head by the distribution that it says."""
    return {"distribution": config.get("distribution_output", "student_t")}


def write_distribution(design: Design) -> dict[str, Any]:
    """The same."""
    return {
        "distribution_output": next(name for name, part in DISTRIBUTIONS.items() if part is design.get("head").part)
    }


SETTINGS: tuple[Setting, ...] = (
    Custom(known, write_known),
    Key("input_size", "variates", "variates", default=1),
    Key("d_model", "width", "width", default=64),
    Depth("encoder_layers", "encoder.stages", default=2),
    Depth("decoder_layers", "decoder.blocks", "decoder_depth", default=2),
    Key("encoder_ffn_dim", f"{ENCODE}.feedforward.hidden", "hidden", default=32),
    Key("decoder_ffn_dim", f"{DECODE}.feedforward.hidden", default=32),
    Key("encoder_attention_heads", f"{ENCODE}.mixer.heads", "heads", default=2),
    Key("decoder_attention_heads", f"{DECODE}.mixer.heads", default=2),
    Key("decoder_attention_heads", f"{DECODE}.cross.*.heads", default=2),
    Key("activation_function", f"{ENCODE}.feedforward.activation", "activation", ACTIVATIONS, "gelu"),
    Key("dropout", f"{ENCODE}.residual.dropout", "dropout", default=0.1),
    Key("attention_dropout", "**.mixer.dropout", default=0.1),
    Key("attention_dropout", f"{DECODE}.cross.*.dropout", default=0.1),
    Key("activation_dropout", "**.feedforward.dropout", default=0.1),
    Written(encoder_layerdrop=0.0, decoder_layerdrop=0.0, loss="nll"),
)


def attention(config: Config) -> dict[str, Any]:
    """How many queries attend, and whether layers halve the series."""
    few = config.get("attention_type", "prob") != "full"
    if few:
        config.only({"attention_type": "prob"})
    return {"factor": config.get("sampling_factor", 5) if few else None, "distilling": config.get("distil", True)}


def write_attention(design: Design) -> dict[str, Any]:
    """The same."""
    factor = design.get(design.find(f"{ENCODE}.mixer")[0]).options.get("factor")
    halved = any(stage.get("enter") is not None for stage in design.get("encoder.stages"))
    said = {"attention_type": "full"} if factor is None else {"attention_type": "prob", "sampling_factor": factor}
    return {**said, "distil": halved or len(design.get("encoder.stages")) == 1}


def table(design: Design) -> list[Pair]:
    """The whole body."""
    pairs: list[Pair] = [Pair("kinds.*.weight", ("embedder.embedders.*.weight",))]
    for ours, theirs in (("source", "encoder"), ("target", "decoder")):
        pairs += layer(f"{ours}.project", f"{theirs}.value_embedding.value_projection", bias=False)
        pairs += layer(f"{ours}.norm", f"{theirs}.layernorm_embedding")
    for i in range(1, len(design.get("encoder.stages"))):
        pairs += layer(f"encoder.stages.{i}.enter.conv", f"encoder.conv_layers.{i - 1}.downConv")
        pairs += batch_norm(f"encoder.stages.{i}.enter.norm", f"encoder.conv_layers.{i - 1}.norm")
    return [
        *pairs,
        *bart.block("encoder.stages.*.blocks.0", "encoder.layers.*", bart.FIRST, bart.LAST),
        *bart.block(DECODE, "decoder.layers.*", bart.FIRST, bart.CROSS, bart.LAST),
    ]


def sines(model: Any) -> Tensor:
    """Their table of places, of the steps read and of those to come, to the last bit."""
    positions, count = model.source.positions, model.reads + model.horizon
    rates = positions.base ** (torch.arange(0, positions.width, 2, dtype=torch.float64) / positions.width)
    angles = torch.arange(count)[:, None] / rates
    return torch.cat((angles.sin(), angles.cos()), 1).float()


DRAWS = Top(
    settings=(Custom(distribution, write_distribution),),
    table=tuple(layer("head.project.*", "parameter_projection.proj.*")),
)
"""Says the distribution."""
STATES = Top(head=lambda config: None, prefix="")
"""Says nothing: what the decoder makes of the steps to come is asked for (`steps`)."""
FAMILY = Family(
    name="informer",
    system="informer",
    settings=(*SETTINGS, Custom(attention, write_attention)),
    table=table,
    prefix="model",
    tops={"InformerForPrediction": DRAWS, "InformerModel": STATES},
    make=drawing_informer,
    fixed={f"{stack}.embed_positions.weight": sines for stack in ("encoder", "decoder")},
)
register(FAMILY)
register(
    replace(
        FAMILY,
        name="time_series_transformer",
        settings=(*SETTINGS, Always("factor", None), Always("distilling", False)),
        tops={"TimeSeriesTransformerForPrediction": DRAWS, "TimeSeriesTransformerModel": STATES},
    )
)
