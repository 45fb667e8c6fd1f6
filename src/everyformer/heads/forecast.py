"""The next steps of a series."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("heads")
class ForecastHead(Head):
    """Tokens that are variates: each through one linear map to its next `horizon` steps (iTransformer, section 3.1).

    Leading tokens that are no variates (time stamps) give no forecast.
    """

    def __init__(self, width: int, *, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.project = nn.Linear(width, horizon)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B S C"]:
        """The forecast, time first."""
        return self.project(tokens.values[:, tokens.prefix :]).mT


@part("heads")
class StepHead(Head):
    """Tokens that are steps: each of the last `horizon` through one linear map to its variates (Zhou et al., Informer, 2021, 3.3)."""

    def __init__(self, width: int, *, horizon: int, variates: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.project = nn.Linear(width, variates)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B S C"]:
        """The forecast, time first."""
        return self.project(tokens.values[:, -self.horizon :])
