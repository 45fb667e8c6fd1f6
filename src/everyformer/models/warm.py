"""Encoder-decoders that begin as models trained before."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from everyformer.backbones import Block, Encoder
from everyformer.designs import Design, design_of
from everyformer.edits import insert, resize
from everyformer.errors import DoesNotFit
from everyformer.heads import ClassHead, TokenHead
from everyformer.heads.pools import Mean
from everyformer.masks import Causal, Full, Mask
from everyformer.mixers import CrossAttention
from everyformer.models.model import Model
from everyformer.models.parallel import ParallelSeq2Seq
from everyformer.models.seq2seq import Seq2Seq
from everyformer.registry import method, part
from everyformer.specs import Spec, spec


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
    if shared:
        return begun(SharedSeq2Seq, encoder, encoder, Causal(), seed=seed, target=None)
    return begun(Seq2Seq, encoder, decoder or encoder, Causal(), seed=seed)


def parallel_seq2seq(
    encoder: Model, decoder: Model | None = None, *, longest: int = 128, seed: int | None = None
) -> ParallelSeq2Seq:
    """An encoder-decoder that fills in all of a target at once, both halves of which begin as a masked language model
    (Yoshida, 2024): only the cross-attention, and the head that tells the length, up to `longest`, are new.

    Train it by `objectives.MaskedTarget`, and let it write by `generation.mask_predict`.
    """
    lengths = spec(ClassHead, classes=longest + 1, pool=spec(Mean))
    return begun(ParallelSeq2Seq, encoder, decoder or encoder, Full(), seed=seed, lengths=lengths)


S = TypeVar("S", bound=Seq2Seq)


def begun(part: Callable[..., S], encoder: Model, decoder: Model, mask: Mask, *, seed: int | None, **options: Any) -> S:
    """An encoder-decoder of two trained models, with new cross-attention in each block of the decoder, which is under `mask`."""
    source, begins = design_of(encoder), copy.deepcopy(decoder)
    check(source, "encoder")
    check(design_of(begins), "decoder")
    if not isinstance(begins.head, TokenHead):
        raise DoesNotFit(f"a decoder needs a head of tokens; this has {type(begins.head).__name__}", "decoder.head")
    width = source.get("width")
    if design_of(begins).get("width") != width:
        raise DoesNotFit(f"halves of width {width} and {design_of(begins).get('width')}; take two as wide", "decoder")
    for i, block in enumerate(design_of(begins).get("backbone.blocks")):
        if block.part is not Block:
            raise DoesNotFit(f"cross-attention goes into a Block; here is {block.name}", f"decoder.blocks.{i}")
        mixer = block.get("mixer")
        cross = spec(CrossAttention, heads=mixer.get("heads"), bias=mixer.get("bias"))
        insert(begins, f"backbone.blocks.{i}.cross.0", cross, seed=None if seed is None else seed + i)
    resize(begins, "backbone.mask", mask, seed=seed)
    wanted = design_of(begins)
    whole = {
        "width": width, "source": source.get("embedding"), "encoder": source.get("backbone"),
        "target": wanted.get("embedding"), "decoder": wanted.get("backbone"), "head": wanted.get("head"),
        "start": wanted.get("start"), **options,
    }  # fmt: skip
    made: S = Design(Spec(part, whole), "bert2bert").build(seed=seed)
    made.source.load_state_dict(encoder.embedding.state_dict())
    made.encoder.load_state_dict(encoder.backbone.state_dict())
    made.into.load_state_dict(begins.embedding.state_dict())
    made.decoder.load_state_dict(begins.backbone.state_dict())
    made.head.load_state_dict(begins.head.state_dict())
    return made


def check(design: Design, half: str) -> None:
    """Refuse what is no stack of blocks on one text."""
    body = design.get("backbone") if design.spec.part is Model else None
    if body is None or not issubclass(body.part, Encoder):
        raise DoesNotFit(f"each half begins as a Model with a stack of blocks; given '{design.name}'", half)
