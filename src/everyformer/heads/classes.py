"""One class for a whole input."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Head, Norm, normalise
from everyformer.dropout import Dropout
from everyformer.heads.pools import FirstToken, Mean, Pool
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("heads")
class ClassHead(Head):
    """Tokens pooled to one vector, an optional hidden layer (BERT's pooler) or `transform` of it, then logits."""

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        pool: Spec[Pool] = spec(FirstToken),  # noqa: B008
        norm: Spec[Norm] | None = None,
        hidden: bool = False,
        activation: str = "tanh",
        transform: Spec[Any] | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.pool = self.make("pool", pool, width)
        width *= self.pool.widens
        self.norm = self.make("norm", norm, width)
        self.hidden = nn.Linear(width, width) if hidden else None
        self.activation = activation_named(activation)
        self.transform = self.make("transform", transform, width)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Linear(getattr(self.transform, "output", width), classes, bias=bias)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B classes"]:
        """The logits of each class."""
        pooled = self.pool(tokens)
        if self.norm is not None:
            pooled = self.norm(pooled)
        if self.hidden is not None:
            pooled = self.activation(self.hidden(pooled))
        if self.transform is not None:
            pooled = self.transform(pooled)
        return self.classify(pooled if self.dropout is None else self.dropout(pooled))


@part("heads")
class MLPHead(Head):
    """Tokens pooled to one vector, a hidden layer of `ratio` times its width with a norm behind it, then logits
    (Yu et al., MetaFormer Baselines, 2024, official code).
    """

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        pool: Spec[Pool] = spec(FirstToken),  # noqa: B008
        norm: Spec[Norm] | None = None,
        ratio: float = 4.0,
        activation: str = "squared_relu",
        after: Spec[Norm] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.pool = self.make("pool", pool, width)
        width *= self.pool.widens
        hidden = int(width * ratio)
        self.norm = self.make("norm", norm, width)
        self.hidden = nn.Linear(width, hidden)
        self.activation = activation_named(activation)
        self.after = self.make("after", after, hidden)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Linear(hidden, classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B classes"]:
        """The logits of each class."""
        pooled = self.pool(tokens)
        hidden = self.activation(self.hidden(pooled if self.norm is None else self.norm(pooled)))
        hidden = hidden if self.after is None else self.after(hidden)
        return self.classify(hidden if self.dropout is None else self.dropout(hidden))


@part("heads")
class WideHead(Head):
    """Each token through a map to `hidden`, a norm and an activation, then pooled, then logits (Fan et al., RMT, 2024,
    official code).
    """

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        norm: Spec[Norm],
        hidden: int = 1024,
        activation: str = "silu",
        pool: Spec[Pool] = spec(Mean),  # noqa: B008
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.widen = nn.Linear(width, hidden)
        self.norm: Norm = self.make("norm", norm, hidden)
        self.activation = activation_named(activation)
        self.pool = self.make("pool", pool, hidden)
        self.dropout = Dropout(dropout) if dropout else None
        self.classify = nn.Linear(hidden * self.pool.widens, classes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B classes"]:
        """The logits of each class."""
        wide = tokens.update(self.widen(tokens.values))
        pooled = self.pool(wide.update(self.activation(normalise(self.norm, wide))))
        return self.classify(pooled if self.dropout is None else self.dropout(pooled))


@part("heads")
class PoolHead(Head):
    """Tokens pooled to one vector, which is the answer; `hidden`: after act(W x) (BERT's pooler).

    `norm` stands behind the pool; `output` is the width to which a map takes the answer (CLIP), with a `bias` or without.
    """

    def __init__(
        self,
        width: int,
        *,
        pool: Spec[Pool] = spec(FirstToken),  # noqa: B008
        norm: Spec[Norm] | None = None,
        hidden: bool = False,
        activation: str = "tanh",
        output: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.pool = self.make("pool", pool, width)
        self.norm = self.make("norm", norm, width)
        self.project = nn.Linear(width, output, bias=bias) if output else None
        self.hidden = nn.Linear(width, width) if hidden else None
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B D"]:
        """The vector of each sequence."""
        pooled = self.pool(tokens)
        if self.norm is not None:
            pooled = self.norm(pooled)
        if self.hidden is not None:
            pooled = self.activation(self.hidden(pooled))
        return pooled if self.project is None else self.project(pooled)
