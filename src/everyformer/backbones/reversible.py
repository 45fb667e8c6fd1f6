"""Blocks whose inputs can be worked out from what they gave, so that training need not keep them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, FeedForward, Mixer, Norm, mix
from everyformer.errors import DoesNotFit
from everyformer.feedforward import MLP
from everyformer.mixers import Attention
from everyformer.norms import PreNorm
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("backbones")
class ReversibleBlock(Backbone):
    """y1 = x1 + mixer(norm(x2)), y2 = x2 + feedforward(norm(y1)), x1 and x2 side by side (Kitaev et al., 2020, equation 9).

    Built with the width of both streams together.
    """

    def __init__(
        self,
        width: int,
        *,
        mixer: Spec[Mixer] = spec(Attention),  # noqa: B008
        feedforward: Spec[FeedForward] = spec(MLP),  # noqa: B008
        residual: Spec[PreNorm] = spec(PreNorm),  # noqa: B008
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"two streams of equal width stand side by side; given a width of {width}")
        self.mixer: Mixer = self.make("mixer", mixer, width // 2)
        self.feedforward: FeedForward = self.make("feedforward", feedforward, width // 2)
        self.residual = nn.ModuleList(self.make("residual", residual, width // 2) for _ in range(2))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Both streams after the block."""
        streams = list(tokens.values.chunk(2, -1))
        for half in range(2):
            streams[half] = streams[half] + self.update(half, tokens.update(streams[1 - half]), context or Context())
        return tokens.update(torch.cat(streams, -1))

    def update(self, half: int, tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
        """What one half of the block adds to the stream of that number; `tokens` have the values of the other."""
        layer = (lambda t: self.feedforward(t, context)) if half else (lambda t: mix(self.mixer, t, context))
        return self.residual[half](tokens, layer, context, torch.zeros_like(tokens.values)).values


@part("backbones")
class Reversible(Backbone):
    """Reversible blocks on two copies of the tokens, which it gives side by side (Kitaev et al., Reformer, 2020, section 3).

    The backward pass works each block's input out from its output: what training keeps does not grow with the depth.
    """

    def __init__(self, width: int, *, blocks: tuple[Spec[ReversibleBlock], ...] = (spec(ReversibleBlock),) * 6) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.make(f"blocks.{i}", each, 2 * width) for i, each in enumerate(blocks))
        self.gives = 2 * width
        for path, module in self.named_modules():
            if {"memory", "condition"} & getattr(module, "capabilities", frozenset()):
                raise DoesNotFit(
                    f"{type(module).__name__} reads what is not among the tokens, and that would get no gradient; what fits "
                    "here looks at the tokens alone, as mixers.Attention does",
                    path,
                )
            if isinstance(module, Norm) and module.counts:
                raise DoesNotFit(
                    f"{type(module).__name__} counts what it sees, and each block is run twice; norms.LayerNorm fits",
                    path,
                )

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Both streams after all blocks."""
        context = context or Context()
        tokens = tokens.update(tokens.values.repeat(1, 1, 2))
        learning = torch.is_grad_enabled() and context.cache is None
        if learning and not tokens.values.is_meta and not torch.compiler.is_compiling():
            values = _Reversed.apply(tokens.values, self.blocks, tokens, context, *self.blocks.parameters())
            return tokens.update(values)
        for block in self.blocks:
            tokens = block(tokens, context)
        return tokens


class _Reversed(torch.autograd.Function):
    """All blocks, of which the output alone is kept; random numbers of the forward pass are drawn again."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, blocks: Any, tokens: Tokens, context: Context, *parameters: Tensor
    ) -> Float[Tensor, "B N E"]:
        ctx.blocks, ctx.context, ctx.states = blocks, context, []
        ctx.tokens = tokens.update(values.new_empty(*values.shape[:2], 0))
        streams = list(values.chunk(2, -1))
        for block in blocks:
            for half in range(2):
                ctx.states.append(_random_state(values.device))
                streams[half] = streams[half] + block.update(half, tokens.update(streams[1 - half]), context)
        values = torch.cat(streams, -1)
        ctx.save_for_backward(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (values,) = ctx.saved_tensors
        streams, gradients = list(values.chunk(2, -1)), list(gradient.chunk(2, -1))
        learnt = {each: None for block in ctx.blocks for each in block.parameters()}
        of: dict[Tensor, Tensor] = {}
        now, states = _random_state(values.device), reversed(ctx.states)
        for block in reversed(ctx.blocks):
            own = [each for each in block.parameters() if each.requires_grad]
            for half in (1, 0):
                _put(next(states), values.device)
                with torch.enable_grad():
                    read = streams[1 - half].detach().requires_grad_()
                    update = block.update(half, ctx.tokens.update(read), ctx.context)
                streams[half] = streams[half] - update.detach()
                more, *found = torch.autograd.grad(update, (read, *own), gradients[half], allow_unused=True)
                gradients[1 - half] = gradients[1 - half] + more
                of |= {each: of.get(each, 0) + grad for each, grad in zip(own, found, strict=True) if grad is not None}
        _put(now, values.device)
        return torch.cat(gradients, -1), None, None, None, *(of.get(each) for each in learnt)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _put(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
