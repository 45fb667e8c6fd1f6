"""Small learners whose answers add up, as many of them as a token needs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.activations import activation as activation_named
from everyformer.choices import choose
from everyformer.contracts import Projection
from everyformer.registry import part


@part("feedforward")
class Adaptive(Projection):
    """h_k(x) = sum over n <= k of W2_n act(W1_n x + b1_n), k for each token by a gate (Wójcik et al., ACM, 2025, section 3).

    Each of the `learners` is `hidden` wide; all of them together are an MLP whose hidden units stand in groups. k is at
    least `least`; in training it is drawn, with straight-through gradients, in use it is the likeliest, and no learner
    beyond it runs. `bias` of the answer comes with the first learner. `chosen` is a point that sees k as a one-hot vector.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        learners: int = 4,
        hidden: int | None = None,
        ratio: float = 4.0,
        least: int = 0,
        activation: str = "gelu",
        bias: bool = True,
        gate_hidden: int = 16,
        temperature: float = 0.8,
    ) -> None:
        super().__init__()
        if not 0 <= least <= learners or learners < 1:
            raise ValueError(f"there is at least 1 learner, and least is 0 to {learners}; given {learners} and {least}")
        self.learners, self.least, self.temperature = learners, least, temperature
        self.each = hidden or max(1, int(inputs * ratio) // learners)
        self.up = nn.Linear(inputs, learners * self.each)
        self.down = nn.Linear(learners * self.each, outputs, bias=bias)
        self.activation = activation_named(activation)
        choices = learners + 1 - least
        self.gate = nn.Sequential(nn.Linear(inputs, gate_hidden), nn.GELU(), nn.Linear(gate_hidden, choices))
        self.chosen = nn.Identity()

    @property
    def cost(self) -> int:
        """Multiplications of one learner for one token."""
        return self.each * (self.up.in_features + self.down.out_features)

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """What the learners that a token takes say, added up."""
        chosen = choose(self.gate(values), training=self.training, temperature=self.temperature)
        chosen = self.chosen(F.pad(chosen, (self.least, 0)))
        if self.training or chosen.is_meta or torch.compiler.is_compiling():
            runs = chosen.flip(-1).cumsum(-1).flip(-1)[..., 1:]
            hidden = self.activation(self.up(values)) * runs.repeat_interleave(self.each, -1)
            answer = F.linear(hidden, self.down.weight)
            return answer if self.down.bias is None else answer + runs[..., :1] * self.down.bias
        return self._grouped(values.flatten(0, -2), chosen.flatten(0, -2).argmax(-1)).view(*values.shape[:-1], -1)

    def _grouped(self, values: Float[Tensor, "T D"], counts: Tensor) -> Float[Tensor, "T E"]:
        """The tokens of each k at once, through the first k learners as one MLP."""
        order = counts.argsort(stable=True)
        said = []
        for k, rows in enumerate(values[order].split(counts.bincount(minlength=self.learners + 1).tolist())):
            units = k * self.each
            bias = self.down.bias if k else None
            hidden = self.activation(F.linear(rows, self.up.weight[:units], self.up.bias[:units]))
            said.append(F.linear(hidden, self.down.weight[:, :units], bias))
        return torch.cat(said)[order.argsort()]

    def prefixes(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... k E"]:
        """h_0 to h_N, whatever the gate says."""
        hidden = self.activation(self.up(values)).unflatten(-1, (self.learners, -1))
        each = torch.einsum("...nh,enh->...ne", hidden, self.down.weight.unflatten(-1, (self.learners, -1)))
        sums = F.pad(each.cumsum(-2), (0, 0, 1, 0))
        return sums if self.down.bias is None else torch.cat((sums[..., :1, :], sums[..., 1:, :] + self.down.bias), -2)
