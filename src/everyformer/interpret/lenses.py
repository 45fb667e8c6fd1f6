"""What a model would say after each layer, and what each layer adds to what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.backbones import Encoder
from everyformer.contracts import MapHead
from everyformer.errors import DoesNotFit
from everyformer.generation import generate
from everyformer.heads import TokenHead
from everyformer.interpret.taps import intervene, record
from everyformer.mixers import Attention
from everyformer.models import Seq2Seq
from everyformer.norms import Identity, LayerNorm, RMSNorm
from everyformer.registry import method
from everyformer.tokens import Tokens


def last_body(model: nn.Module) -> tuple[str, Encoder]:
    """The body whose tokens the head reads, and its path."""
    path = "decoder" if isinstance(model, Seq2Seq) else "backbone"
    body = getattr(model, path, None)
    if not isinstance(body, Encoder):
        raise DoesNotFit(f"lenses read a stack of blocks of one width; this model has {type(body).__name__}", path)
    return path, body


@torch.no_grad()
def logit_lens(model: nn.Module, **batch: Tensor) -> dict[str, Tensor]:
    """The model's answer read from the stream before the first block and after each (nostalgebraist, 2020).

    The last norm and the head are the model's own; read after the last block they give its answer.
    """
    path, body = last_body(model)
    if isinstance(model.head, MapHead):
        raise DoesNotFit("the head of this model reads several levels of its body, and the lens gives it one", "head")
    first = f"{path}.blocks.0.input"
    with record(model, first, f"{path}.blocks.*") as seen:
        model(**batch)
    try:
        return {place: _read(model, body, seen.tokens(place)) for place in seen}
    except RuntimeError as error:
        raise DoesNotFit(f"the head of this model reads more than the tokens of its body: {error}", "head") from None


def _read(model: Any, body: Encoder, tokens: Tokens) -> Tensor:
    if body.norm is not None:
        tokens = tokens.update(body.norm(tokens.values))
    return model.head(tokens)


@method(
    "decoderlens",
    title="DecoderLens: Layerwise Interpretation of Encoder-Decoder Transformers",
    authors="Langedijk et al.",
    year=2023,
    arxiv="2310.03686",
    idea="The decoder of an encoder-decoder reads an earlier layer of the encoder and says what is known there.",
)
@torch.inference_mode()
def decoder_lens(
    model: Seq2Seq, inputs: Int[Tensor, "B N"] | Sequence[Sequence[int]], **options: Any
) -> dict[str, list[list[int]]]:
    """What is generated from the encoder's stream before its first block and after each (section 3).

    The encoder's last norm is applied to each; `options` are those of `generate`.
    """
    if not isinstance(model, Seq2Seq) or not isinstance(model.encoder, Encoder):
        raise DoesNotFit("the decoder lens reads an encoder of blocks through its decoder; use logit_lens here")
    with record(model, "encoder.blocks.0.input", "encoder.blocks.*") as seen:
        last = generate(model, inputs, **options)
    *places, end = seen
    said = {}
    for place in places:
        stream = seen[place] if model.encoder.norm is None else model.encoder.norm(seen[place])
        with intervene(model, {"encoder": stream}):
            said[place] = generate(model, inputs, **options)
    return {**said, end: last}


@torch.no_grad()
def direct_logits(model: nn.Module, direction: Float[Tensor, " V"], **batch: Tensor) -> dict[str, Tensor]:
    """What the embedding, each head and each feedforward add to `logits @ direction` at each token (Elhage et al., 2021).

    The last norm is held at the scale that it has for the whole stream, so that all parts, with the biases under
    'bias', add up to the answer. Heads have (B, H, N), the rest (B, N).
    """
    path, body = last_body(model)
    head = model.head
    if not isinstance(head, TokenHead) or head.transform is not None:
        raise DoesNotFit("direct logits need a head that is one linear map of each token", "head")
    read = direction @ head.project.weight * head.scale
    at = f"{path}.blocks"
    with record(
        model, f"{at}.0.input", f"{at}.*", f"{at}.*.residual.*", f"{at}.*.residual.*.input", f"{at}.**.mixed"
    ) as seen:
        model(**batch)
    final = seen[f"{at}.{len(body.blocks) - 1}"]
    parts = {"embedding": _frozen(body.norm, seen[f"{at}.0.input"], final) @ read}
    for number, block in enumerate(body.blocks):
        for which, layer in enumerate(block.layers()):
            place = f"{at}.{number}.residual.{which}"
            name = next(name for name, module in block.named_modules() if module is layer)
            added = seen[place] - seen[f"{place}.input"]
            through = f"{at}.{number}.{name}.mixed"
            if isinstance(layer, Attention) and through in seen:
                heads = _by_head(layer, seen[through])
                parts[f"{at}.{number}.{name}.mixed"] = _frozen(body.norm, heads, final[:, None]) @ read
                added = added - heads.sum(1)
            parts[f"{at}.{number}.{name}"] = _frozen(body.norm, added, final) @ read
    shift = getattr(body.norm, "bias", None)
    bias = 0.0 if shift is None else shift @ read
    if head.project.bias is not None:
        bias = bias + head.project.bias @ direction
    parts["bias"] = final.new_zeros(final.shape[:2]) + bias
    return parts


def _by_head(layer: Attention, mixed: Float[Tensor, "B H N V"]) -> Float[Tensor, "B H N D"]:
    out = layer.output.weight.view(-1, layer.heads, mixed.shape[-1])
    return torch.einsum("bhnv,dhv->bhnd", mixed, out)


def _frozen(norm: nn.Module | None, part: Tensor, total: Tensor) -> Tensor:
    """A part of a stream through its norm, at the scale that the norm has for the whole."""
    weight: Tensor | None
    if norm is None or isinstance(norm, Identity):
        return part
    if isinstance(norm, LayerNorm):
        scale = (total.var(-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        part = part - part.mean(-1, keepdim=True)
        weight = norm.weight
    elif isinstance(norm, RMSNorm):
        scale = (total.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
        weight = norm.weight + norm.offset
    else:
        raise DoesNotFit(
            f"direct logits hold a LayerNorm or an RMSNorm at its scale, not {type(norm).__name__}", "norm"
        )
    return part * scale if weight is None else part * scale * weight
