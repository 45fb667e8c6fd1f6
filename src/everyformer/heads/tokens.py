"""Logits for every token."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import FeedForward, Head, Norm
from everyformer.registry import Part, part
from everyformer.specs import Spec
from everyformer.tokens import Tokens


@part("heads")
class TokenHead(Head):
    """A linear map to the vocabulary, or to the classes of a token.

    `table_width` is what `transform` gives, where that is not the width (an embedding with a narrower table). Logits are
    kept within `cap` by cap tanh(x / cap) (Gemma 2, 2024, section 2).
    """

    tied = False

    def __init__(
        self,
        width: int,
        *,
        vocabulary: int,
        bias: bool = False,
        scale: float = 1.0,
        transform: Spec[Any] | None = None,
        table_width: int | None = None,
        cap: float | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.scale, self.cap = vocabulary, scale, cap
        self.transform = self.make("transform", transform, width)
        self.project = nn.Linear(table_width or width, vocabulary, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N V"]:
        """The logits of each token; the values are first multiplied by `scale` (T5 has 1/sqrt(D))."""
        values = tokens.values if self.transform is None else self.transform(tokens.values)
        logits = self.project(values if self.scale == 1.0 else values * self.scale)
        return logits if self.cap is None else self.cap * (logits / self.cap).tanh()


@part("heads")
class CellHead(Head):
    """A linear map of every token but the leading ones: the classes, codes or pixels of each cell of a picture."""

    def __init__(self, width: int, *, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.project = nn.Linear(width, outputs)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """The answer of each cell."""
        return self.project(tokens.values[:, tokens.prefix :])


@part("heads")
class TiedHead(TokenHead):
    """A token head whose map is the embedding's own table (Press and Wolf, 2017); the model ties them."""

    tied = True


@part("heads")
class Transform(Part):
    """norm(act(W x)) before the logits: BERT's masked-language head; `output` is its width where that is another."""

    def __init__(
        self, width: int, *, norm: Spec[Any], activation: str = "gelu", output: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        self.output = output = output or width
        self.linear = nn.Linear(width, output, bias=bias)
        self.activation = activation_named(activation)
        self.norm = self.make("norm", norm, output)

    def forward(self, values: Float[Tensor, "B N D"]) -> Float[Tensor, "B N E"]:
        """The values that the logits are taken from."""
        return self.norm(self.activation(self.linear(values)))


@part("heads")
class Refined(Part):
    """norm(x + feedforward(x)) before the logits (Zaheer et al., BigBird, 2020, their code for answers in a text)."""

    def __init__(self, width: int, *, feedforward: Spec[FeedForward], norm: Spec[Norm]) -> None:
        super().__init__()
        self.feedforward: Any = self.make("feedforward", feedforward, width)
        self.norm: Any = self.make("norm", norm, width)

    def forward(self, values: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """The values that the logits are taken from."""
        return self.norm(values + self.feedforward(Tokens(values)))


@part("heads")
class Narrow(Part):
    """W x + b before the logits, to the width of a narrower table (Reid et al., Subformer, 2021, their code)."""

    def __init__(self, width: int, *, output: int | None = None) -> None:
        super().__init__()
        self.output = output or width
        self.linear = nn.Linear(width, self.output)

    def forward(self, values: Float[Tensor, "B N D"]) -> Float[Tensor, "B N E"]:
        """The values that the logits are taken from."""
        return self.linear(values)
