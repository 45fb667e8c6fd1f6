"""Blocks that run several times with the same weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from everyformer.auxiliary import Auxiliary
from everyformer.backbones.blocks import Block
from everyformer.context import Context
from everyformer.contracts import Backbone, Position
from everyformer.positions import Sinusoidal
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class Entrance(Part):
    """Base of what is done to the tokens on the way into each turn: `forward(tokens, first, turn)` gives Tokens.

    `first` are the tokens that entered the loop, `turn` counts from 1.
    """

    def forward(self, tokens: Tokens, first: Tokens, turn: int) -> Tokens:
        """The tokens that the turn begins with."""
        raise NotImplementedError


@part("backbones")
class TurnSignal(Entrance):
    """The position of each token and that of the turn, added at every turn (Dehghani et al., 2019, equation 4)."""

    def __init__(self, width: int, *, positions: Spec[Position] = spec(Sinusoidal)) -> None:  # noqa: B008
        super().__init__()
        self.positions: Position = self.make("positions", positions, width, 1)
        self.positions.stands_in("embedding")

    def forward(self, tokens: Tokens, first: Tokens, turn: int) -> Tokens:
        """The tokens with both signals added."""
        step = Tokens(tokens.values[:1, :1], positions=torch.full((1, 1, 1), turn, device=tokens.values.device))
        return tokens.update(tokens.values + self.positions(tokens) + self.positions(step))


@part("backbones")
class Injection(Entrance):
    """What entered the loop is added again at each turn after the first (Yang et al., 2024, section 4.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens, first: Tokens, turn: int) -> Tokens:
        """The tokens, from the second turn on with the first ones added."""
        return tokens if turn == 1 else tokens.update(tokens.values + first.values)


@part("backbones")
class Loop(Backbone):
    """Its blocks one after the other, `times` over (Dehghani et al., 2019; Lan et al., ALBERT, 2020, section 3.1).

    `entrance` is what is done to the tokens before each turn.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),),
        times: int = 6,
        entrance: Spec[Entrance] | None = None,
    ) -> None:
        super().__init__()
        if times < 0:
            raise ValueError(f"times is at least 0; given {times}")
        self.times = times
        self.blocks: nn.ModuleList = self.make("blocks", blocks, width)
        self.entrance = self.make("entrance", entrance, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the last turn."""
        context = context or Context()
        first = tokens
        for turn in range(1, self.times + 1):
            tokens = self.turn(self.enter(tokens, first, turn), turn, context)
        return tokens

    def enter(self, tokens: Tokens, first: Tokens, turn: int) -> Tokens:
        """The tokens that a turn begins with."""
        return tokens if self.entrance is None else self.entrance(tokens, first, turn)

    def turn(self, tokens: Tokens, turn: int, context: Context) -> Tokens:
        """The tokens after one turn, which has a cache of its own."""
        if context.cache is not None:
            context = context.replace(cache=context.cache.turn(self, turn))
        for block in self.blocks:
            tokens = block(tokens, context)
        return tokens


@part("backbones")
class AdaptiveLoop(Loop):
    """A loop in which each token halts by itself (Graves, 2016; Dehghani et al., 2019, section 2.2 and appendix C).

    At each turn a token says with what probability it halts; once these add up to `threshold` it has halted. Its answer
    moves to each new state by that probability, to the last one by what is left to 1, as in the listing of appendix C.
    The turns taken and what was left are an auxiliary loss of share `cost`.
    """

    def __init__(
        self,
        width: int,
        *,
        blocks: tuple[Spec[Backbone], ...] = (spec(Block),),
        times: int = 6,
        entrance: Spec[Entrance] | None = None,
        threshold: float = 0.99,
        bias: float = 1.0,
        cost: float = 0.01,
    ) -> None:
        super().__init__(width, blocks=blocks, times=times, entrance=entrance)
        self.threshold = threshold
        self.halt = nn.Linear(width, 1)
        self.halt.own_init = True  # type: ignore[assignment]
        nn.init.constant_(self.halt.bias, bias)
        self.ponder = Auxiliary(cost)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The answer of each token."""
        context = context or Context()
        first, answer = tokens, torch.zeros_like(tokens.values)
        summed = tokens.values.new_zeros(*tokens.values.shape[:2], 1)
        remainder, turns = torch.zeros_like(summed), torch.zeros_like(summed)
        for turn in range(1, self.times + 1):
            tokens = self.enter(tokens, first, turn)
            chance = self.halt(tokens.values).sigmoid()
            running = summed < 1
            halts = running & (summed + chance > self.threshold)
            goes_on = running & ~halts
            remainder = remainder + halts * (1 - summed)
            weight = goes_on * chance + halts * (1 - summed)
            summed = torch.where(halts, torch.ones_like(summed), summed + goes_on * chance)
            turns = turns + running
            tokens = self.turn(tokens, turn, context)
            answer = weight * tokens.values + (1 - weight) * answer
            if self._all_halted(summed, tokens, context):
                break
        spent = tokens.update(turns + remainder).mean()
        self.ponder(spent.mean())
        return tokens.update(answer)

    def _all_halted(self, summed: Tensor, tokens: Tokens, context: Context) -> bool:
        """Whether the turns to come would change nothing; a cache wants them all, and a compiled pass cannot ask."""
        if self.training or context.cache is not None or summed.is_meta or torch.compiler.is_compiling():
            return False
        halted = summed[..., 0] >= 1
        return bool((halted if tokens.mask is None else halted | ~tokens.mask).all())
