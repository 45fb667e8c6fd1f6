"""The dense feedforwards."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import FeedForward, Norm, normalise
from everyformer.dropout import Dropout
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens
from everyformer.units import Units, at


@part("feedforward")
class MLP(FeedForward):
    """W2 act(W1 x) (Vaswani et al., 2017, equation 2); `hidden` is `ratio` times the width unless given."""

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        ratio: float = 4.0,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = _positive(int(width * ratio) if hidden is None else hidden)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.activation = activation_named(activation)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        hidden = self.activation(self.up(tokens.values))
        return self.down(hidden if self.dropout is None else self.dropout(hidden))

    def units(self) -> Units:
        """Its hidden units."""
        return hidden_units(self.up, self.down, 1)


@part("feedforward")
class NormedMLP(FeedForward):
    """`last`(norm(W2 act(norm(W1 x)))): a norm after each map (Liu et al., LMUFormer, 2024, section 3.1, the channel mixer)."""

    def __init__(
        self, width: int, *, norm: Spec[Norm], ratio: float = 4.0, activation: str = "gelu", last: str = "relu"
    ) -> None:
        super().__init__()
        hidden = _positive(int(width * ratio))
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.norm = nn.ModuleList((self.make("norm", norm, hidden), self.make("norm", norm, width)))
        self.activation, self.last = activation_named(activation), activation_named(last)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        hidden = self.activation(normalise(self.norm[0], tokens.update(self.up(tokens.values))))
        return self.last(normalise(self.norm[1], tokens.update(self.down(hidden))))


@part("feedforward")
class Gated(FeedForward):
    """W3 (act(W1 x) * W2 x): SwiGLU with 'silu', GeGLU with 'gelu' (Shazeer, GLU Variants, 2020, equation 6).

    `hidden` defaults to 2/3 of `ratio` times the width, so that it has the parameters of an MLP of that ratio.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        ratio: float = 4.0,
        activation: str = "silu",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = _positive(int(width * ratio * 2 / 3) if hidden is None else hidden)
        self.up = nn.Linear(width, 2 * hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.activation = activation_named(activation)
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token; the gate is the first half of `up`."""
        gate, value = self.up(tokens.values).chunk(2, -1)
        hidden = self.activation(gate) * value
        return self.down(hidden if self.dropout is None else self.dropout(hidden))

    def units(self) -> Units:
        """Its hidden units; `up` holds their gates and, under these, their values."""
        return hidden_units(self.up, self.down, 2)


@part("feedforward")
class Pointwise(FeedForward):
    """norm(act(W x)), one layer (Trockman and Kolter, ConvMixer, 2023, equation 3)."""

    def __init__(self, width: int, *, activation: str = "gelu", norm: Spec[Norm] | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.activation = activation_named(activation)
        self.norm = self.make("norm", norm, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token becomes."""
        values = self.activation(self.linear(tokens.values))
        return values if self.norm is None else normalise(self.norm, tokens.update(values))


def _positive(hidden: int) -> int:
    if hidden < 1:
        raise ValueError(f"the hidden width is at least 1; given {hidden}")
    return hidden


def hidden_units(up: nn.Module, down: nn.Module, layers: int) -> Units:
    """The hidden units between two maps, the first of which gives so many numbers for each, in blocks."""
    count: int = down.in_features  # type: ignore[assignment]
    above = at(count, *[count] * layers)
    return Units(
        "hidden",
        count,
        {"hidden": 1},
        {"up.weight": (0, above), "up.bias": (0, above), "down.weight": (1, at(count, count))},
        "down",
    )
