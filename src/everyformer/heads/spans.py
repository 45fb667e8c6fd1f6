"""How likely a span of a passage answers a question."""

from __future__ import annotations

from collections import defaultdict

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.activations import activation as activation_named
from everyformer.context import Context
from everyformer.contracts import Head
from everyformer.errors import BadInput
from everyformer.registry import part
from everyformer.tokens import Tokens


@part("heads")
class SpanHead(Head):
    """A score for every span of at most `longest` tokens: a map of act(W [first token; last token] + b).

    Tokens are passages, the rows of a grid, of which the first `shared` tokens are in no span (Kedia et al., FiE, 2022).
    """

    needs_grid = True

    def __init__(self, width: int, *, shared: int = 10, longest: int = 10, activation: str = "gelu") -> None:
        super().__init__()
        if longest < 1:
            raise ValueError(f"a span has at least 1 token; given longest={longest}")
        self.shared, self.longest = shared, longest
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1)
        self.activation = activation_named(activation)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B P L W"]:
        """The score of the span of w + 1 tokens from each token on; those that leave the passage mean nothing (`spans`)."""
        grid = tokens.grid
        if grid is None or len(grid) != 2 or grid[1] <= self.shared:
            raise BadInput(
                f"expected passages that fill a grid, one a row, of more than {self.shared} columns; given grid={grid}"
            )
        values = tokens.values.unflatten(1, grid)[:, :, self.shared :]
        last = F.pad(self.last(values), (0, 0, 0, self.longest - 1)).unfold(2, self.longest, 1).mT
        scores: Tensor = self.score(self.activation(self.first(values)[:, :, :, None] + last))
        return scores[..., 0]


def spans(inputs: Int[Tensor, "B P L"], longest: int, pad: int = 0) -> Bool[Tensor, "B P L W"]:
    """Which spans of passages of ids are whole: they hold no padding, and end where the passage does at the latest."""
    return F.pad(inputs != pad, (0, longest - 1)).unfold(2, longest, 1).long().cumprod(-1).bool()


def answers(
    scores: Float[Tensor, "B P L W"], inputs: Int[Tensor, "B P L"], pad: int = 0
) -> list[dict[tuple[int, ...], float]]:
    """The probability of every answer among all spans of all passages: that of each span that reads so, summed.

    The likeliest first.
    """
    real = spans(inputs, scores.shape[-1], pad)
    likely = scores.masked_fill(~real, float("-inf")).flatten(1).softmax(1).view_as(scores)
    found = []
    for row, share, whole in zip(inputs.tolist(), likely, real, strict=True):
        mass: dict[tuple[int, ...], float] = defaultdict(float)
        for (passage, first, more), each in zip(whole.nonzero().tolist(), share[whole].tolist(), strict=True):
            mass[tuple(row[passage][first : first + more + 1])] += each
        found.append(dict(sorted(mass.items(), key=lambda pair: -pair[1])))
    return found
