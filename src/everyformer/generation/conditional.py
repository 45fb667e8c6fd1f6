"""Text that is likely given that it has a property, such as not to be empty: argmax p(y | x, a)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.designs import seeded
from everyformer.errors import BadInput
from everyformer.generation.beam import Beam, Power
from everyformer.generation.decoding import Change, Decoding
from everyformer.generation.generate import evaluating, generate
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Hypothesis, Sample, Strategy, Stream
from everyformer.models import Model
from everyformer.registry import part
from everyformer.specs import Spec, spec

NONE = -1
"""Where a sample has no token any more."""
LEAST = -1e4
"""The log-probability of what can never have the property, so that a text without hope still has a next token."""


class Chance(nn.Module):
    """log P(a | prefix, next token), for every next token, by a linear map of the last state of the prefix."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, vocabulary)

    def forward(self, states: Float[Tensor, "B M D"]) -> Float[Tensor, "B M V"]:
        """The log-probability that a text that goes on with each token will have the property."""
        return F.logsigmoid(self.map(states))


class Given(Change):
    """p(token | prefix, a) = p(token | prefix) P(a | prefix, token) / P(a | prefix)."""

    def __init__(self, chance: nn.Module) -> None:
        self.chance = chance

    def __call__(
        self, decoding: Decoding, tokens: Int[Tensor, "B M"] | None, logits: Float[Tensor, "B M V"]
    ) -> Float[Tensor, "B M V"]:
        """Bayes' rule at each token; the divisor is what makes the sum over all tokens 1."""
        chance = self.chance(decoding.states.values[:, -logits.shape[1] :].float()).clamp(min=LEAST)
        return (logits.log_softmax(-1) + chance).log_softmax(-1)


@part("generation")
class Conditional(Strategy):
    """A strategy for texts that have a property (Yoshida, 2024; Yoshida et al., MAP's not dead yet, 2023).

    `chance` gives of the last states log P(a | prefix, token) for each next token (`condition` trains one). The sum over the
    tokens of a text is log p(y | a): of a beam search the score, with no penalty for length.
    """

    def __init__(
        self,
        *,
        chance: nn.Module,
        strategy: Spec[Strategy] = spec(Beam, penalty=spec(Power, exponent=0.0), early=False),  # noqa: B008
    ) -> None:
        super().__init__()
        self.chance = chance
        self.strategy: Strategy = self.make("strategy", strategy)

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """What the strategy makes of the model's probabilities given the property."""
        decoding.changes.append(Given(self.chance))
        return self.strategy(decoding, ends, max_tokens, stream)


def condition(
    model: Model,
    prompts: Int[Tensor, "B N"],
    holds: Callable[[Sequence[int]], bool],
    *,
    eos: int,
    max_tokens: int,
    samples: int = 8,
    steps: int = 200,
    lr: float = 1e-2,
    seed: int = 0,
) -> Chance:
    """A `Chance` of the property `holds` of a text's new tokens, trained on the model's own `samples` after each prompt.

    The model stays as it is.
    """
    if samples < 1 or steps < 1:
        raise BadInput(f"a property is learnt from 1 sample or more in 1 step or more; given {samples} and {steps}")
    with evaluating(model), seeded(seed), torch.enable_grad():
        begun = prompts.repeat(samples, 1)
        said = generate(model, begun, eos=eos, pad=eos, max_tokens=max_tokens, strategy=Sample())
        had = torch.tensor([holds(each) for each in said], device=prompts.device)
        if had.all() or not had.any():
            raise BadInput(
                f"of {len(said)} samples {int(had.sum())} have the property; give others, or more, so that some do and some do not"
            )
        after = _rows([[*each, eos][:max_tokens] for each in said], prompts.device)
        with torch.no_grad():
            ids = torch.cat((begun, after.clamp(min=0)), 1)
            states = model.states(ids[:, :-1], Context()).values[:, prompts.shape[1] - 1 :].float()
        chance = Chance(states.shape[-1], int(model.speak(model.states(ids[:1], Context()), Context()).shape[-1]))
        chance.to(prompts.device)
        adam = torch.optim.Adam(chance.parameters(), lr)
        for _ in range(steps):
            loss = missed(chance, states, after, had)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return chance.eval().requires_grad_(False)


def missed(
    chance: Chance, states: Float[Tensor, "B N D"], after: Int[Tensor, "B N"], had: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """The cross entropy of the property at every token of the samples, where there is one."""
    real = after != NONE
    told = chance.map(states).gather(-1, after.clamp(min=0)[..., None])[..., 0]
    return F.binary_cross_entropy_with_logits(told[real], had[:, None].expand_as(real)[real].to(told))


def _rows(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "B N"]:
    """Rows of different lengths, none behind the shorter ones."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row, device=device) for row in rows], True, NONE)
