"""Encoder-decoders that begin as models trained before."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design, design_of
from everyformer.edits import insert, resize
from everyformer.errors import DoesNotFit
from everyformer.heads import TokenHead
from everyformer.masks import Causal
from everyformer.mixers import CrossAttention
from everyformer.models.model import Model
from everyformer.models.seq2seq import Seq2Seq
from everyformer.registry import method, part
from everyformer.specs import spec


@part("models")
class SharedSeq2Seq(Seq2Seq):
    """A Seq2Seq whose encoder and decoder have the same weights, cross-attention left out (Rothe et al., 2020, section 3)."""

    def tie(self) -> None:
        """Tie the layers of each block of the decoder, with what stands around them, to those of the encoder."""
        super().tie()
        for theirs, mine in zip(self.encoder.blocks, self.decoder.blocks, strict=True):  # type: ignore[arg-type]
            around = dict(zip(theirs.layers(), theirs.residual, strict=True))
            own = dict(zip(mine.layers(), mine.residual, strict=True))
            for name in ("mixer", "feedforward"):
                one, other = getattr(theirs, name), getattr(mine, name)
                _tie(other, one)
                _tie(own[other], around[one])
        _tie(self.decoder.norm, self.encoder.norm)


def _tie(module: Any, to: Any) -> None:
    """Give a module the parameters of another one like it."""
    for name, inner in module.named_modules() if isinstance(module, nn.Module) else ():
        inner._parameters = to.get_submodule(name)._parameters


@method(
    "bert2bert",
    title="Leveraging Pre-trained Checkpoints for Sequence Generation Tasks",
    authors="Rothe et al.",
    year=2020,
    arxiv="1907.12461",
    idea="Encoder and decoder both begin as BERT, or as any model of text; only the cross-attention between them is new.",
)
def bert2bert(
    encoder: Model, decoder: Model | None = None, *, shared: bool = False, seed: int | None = None
) -> Seq2Seq:
    """An encoder-decoder with the weights of trained models; where no `decoder` is given it begins as the encoder does.

    `shared`: both halves have the same weights (BERTSHARE). A model that was built and not trained gives the variants
    RND2BERT and BERT2RND, GPT-2 for a decoder BERT2GPT (section 3).
    """
    if shared and decoder is not None:
        raise DoesNotFit("halves that share their weights begin as one model; give no decoder", "decoder")
    source, target = design_of(encoder), copy.deepcopy(decoder or encoder)
    check(source, "encoder")
    check(design_of(target), "decoder")
    if not isinstance(target.head, TokenHead):
        raise DoesNotFit(f"a decoder needs a head of tokens; this has {type(target.head).__name__}", "decoder.head")
    width = source.get("width")
    if design_of(target).get("width") != width:
        raise DoesNotFit(f"halves of width {width} and {design_of(target).get('width')}; take two as wide", "decoder")
    for i, block in enumerate(design_of(target).get("backbone.blocks")):
        if block.part is not Block:
            raise DoesNotFit(f"cross-attention goes into a Block; here is {block.name}", f"decoder.blocks.{i}")
        mixer = block.get("mixer")
        cross = spec(CrossAttention, heads=mixer.get("heads"), bias=mixer.get("bias"))
        insert(target, f"backbone.blocks.{i}.cross.0", cross, seed=None if seed is None else seed + i)
    resize(target, "backbone.mask", Causal(), seed=seed)
    wanted = design_of(target)
    made: Seq2Seq = Design(
        spec(
            SharedSeq2Seq if shared else Seq2Seq,
            width=width,
            source=source.get("embedding"),
            encoder=source.get("backbone"),
            target=None if shared else wanted.get("embedding"),
            decoder=wanted.get("backbone"),
            head=wanted.get("head"),
            start=wanted.get("start"),
        ),
        "bert2bert",
    ).build(seed=seed)
    made.source.load_state_dict(encoder.embedding.state_dict())
    made.encoder.load_state_dict(encoder.backbone.state_dict())
    made.into.load_state_dict(target.embedding.state_dict())
    made.decoder.load_state_dict(target.backbone.state_dict())
    made.head.load_state_dict(target.head.state_dict())
    return made


def check(design: Design, half: str) -> None:
    """Refuse what is no stack of blocks on one text."""
    body = design.get("backbone") if design.spec.part is Model else None
    if body is None or not issubclass(body.part, Encoder):
        raise DoesNotFit(f"each half begins as a Model with a stack of blocks; given '{design.name}'", half)
