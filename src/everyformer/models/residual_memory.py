"""A language model that stays as it is, and a small encoder-decoder beside it that says what its text is to hold."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.backbones import Block, Decoder, Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.designs import Design, design_of
from everyformer.errors import BadInput, DoesNotFit
from everyformer.feedforward import MLP
from everyformer.heads import TokenHead
from everyformer.mixers import Attention, CrossAttention, PairedAttention
from everyformer.models.fixed import PartlyFixed
from everyformer.models.model import Model, Root, enter, final, run
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.starts import Start, Torch
from everyformer.norms import PostNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class ResidualMemory(PartlyFixed, Seq2Seq):
    """control x the decoder's logits + (1 - control) x those of a decoder-only model that is not trained
    (Zhang et al., 2023, and their code): `source` is its embedding, `language` its body and `voice` its head.

    The source is the text that controls. Encoder and decoder enter through the language model's own embedding, and find its
    last states in the memory 'language', one for each token of the target. `control` may be set anew at any step; at 0 it is
    the language model alone.
    """

    def __init__(
        self,
        *,
        width: int,
        source: Spec[Embedding],
        language: Spec[Backbone],
        voice: Spec[Head],
        encoder: Spec[Backbone],
        decoder: Spec[Backbone],
        head: Spec[Head],
        control: float = 0.5,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        Root.__init__(self)
        if not 0 <= control <= 1:
            raise BadInput(f"control is {control}; give 0 for the language model alone, up to 1 for the memory alone")
        self.source = self.make("source", source, width)
        self.language = self.make("language", language, width)
        self.voice = self.make("voice", voice, width)
        self.encoder = self.make("encoder", encoder, width)
        self.target = None
        self.decoder = self.make("decoder", decoder, width)
        self.head = self.make("head", head, width)
        self.control = control
        self.begin(start)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """The language model."""
        return self.source, self.language, self.voice

    def tie(self) -> None:
        """Make the language model's head use its table again, where it does."""
        super().tie()
        self.share(self.voice, self.source)

    def states(self, target: Tensor, context: Context, **fields: Any) -> Tokens:
        """The last states of the language model and those of the decoder, (B, N, 2D)."""
        tokens = enter(self.source, target, context, fields)
        context.lowered.clear()
        said = self.language(tokens, context.replace(memory={}))
        after = run(self.decoder, tokens, context.replace(memory={**context.memory, "language": said}))
        return after.update(torch.cat((said.values, after.values), -1))

    def speak(self, states: Tokens, context: Context, *, last: bool = False) -> Float[Tensor, "B N V"]:
        """The mixed logits of `states`, or of the last of each sequence, (B, 1, V)."""
        states = final(states) if last else states
        said, own = (states.update(each) for each in states.values.chunk(2, -1))
        return torch.lerp(self.voice(said, context), self.head(own, context), self.control)


def beside(
    language: Spec[Model],
    *,
    vocabulary: int,
    layers: int = 3,
    heads: int = 8,
    hidden: int = 2048,
    control: float = 0.5,
    dropout: float = 0.1,
) -> Spec[ResidualMemory]:
    """The model around a language model: post-norm blocks on both sides, as PyTorch's own layers are."""
    mixer, residual = spec(Attention, heads=heads, dropout=dropout), spec(PostNorm, dropout=dropout)
    block = spec(Block, mixer=mixer, feedforward=spec(MLP, hidden=hidden, activation="relu"), residual=residual)
    cross = (
        spec(PairedAttention, heads=heads, memory="language", dropout=dropout),
        spec(CrossAttention, heads=heads, dropout=dropout),
    )
    return spec(
        ResidualMemory,
        width=language.get("width"),
        source=language.get("embedding"),
        language=language.get("backbone"),
        voice=language.get("head"),
        encoder=spec(Encoder, blocks=(block,) * layers),
        decoder=spec(Decoder, blocks=(block.but(cross=cross),) * layers),
        head=spec(TokenHead, vocabulary=vocabulary),
        control=control,
    )


def residual_memory(model: Model, *, seed: int | None = None, **options: Any) -> ResidualMemory:
    """A trained language model with a memory beside it, to be trained on control texts and targets; the options are those of
    `beside`. The weights of the language model are copied, and stay.
    """
    if not isinstance(model.head, TokenHead):
        raise DoesNotFit(f"a memory adds to logits of tokens; the head is {type(model.head).__name__}", "head")
    design = Design(
        beside(design_of(model).spec, vocabulary=model.head.vocabulary, **options), "residual-memory-transformer"
    )
    made: ResidualMemory = design.build(seed=seed)
    for mine, theirs in zip(made.frozen, (model.embedding, model.backbone, model.head), strict=True):
        mine.load_state_dict(theirs.state_dict())
    return made
