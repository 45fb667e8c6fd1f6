"""Hidden states that are the mean of a few learnt codes, which can be read, named and exchanged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.auxiliary import Auxiliary
from everyformer.contracts import LinearMap
from everyformer.edits import swap
from everyformer.errors import DoesNotFit
from everyformer.feedforward import MLP
from everyformer.interpret.taps import record
from everyformer.mixers import Attention
from everyformer.mixers.attend import Tap
from everyformer.registry import method, part
from everyformer.specs import spec


@part("interpret")
class Coded(LinearMap):
    """W x + b, where each of `groups` pieces of x is the mean of the `active` codes most like it (Tamkin et al., 2023, section 2).

    Likeness is the product with a code of length 1. Gradients pass to x as if nothing had happened, and to the codes also
    from an auxiliary loss of share `cost`, their squared distance to x. Codes are read and exchanged at the taps `likeness`
    (B, N, G, S) and `chosen` (B, N, G, k): `record` and `intervene` take 'PATH.chosen'.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        groups: int = 1,
        codes: int = 1000,
        active: int = 1,
        cost: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, bias)
        if inputs % groups or not 1 <= active <= codes:
            raise ValueError(
                f"groups divide the inputs ({inputs}) and active codes are 1 to codes ({codes}); given {groups} and {active}"
            )
        self.groups, self.active = groups, active
        self.matrix = nn.Parameter(nn.Linear(inputs, outputs, bias=False).weight.detach())
        self.codes = nn.Parameter(torch.randn(groups, codes, inputs // groups))
        self.likeness, self.chosen = Tap(), Tap()
        self.reconstruction = Auxiliary(cost)

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix itself."""
        return self.matrix

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """Stand for this matrix, of coded inputs."""
        self.matrix.copy_(weight)

    @torch.no_grad()
    def begin(self, values: Float[Tensor, "... D"], seed: int = 0) -> None:
        """Start each code at a value that was seen, drawn at random."""
        seen = values.flatten(0, -2).unflatten(-1, (self.groups, -1))
        drawn = torch.randint(len(seen), self.codes.shape[:2], generator=torch.Generator().manual_seed(seed))
        self.codes.copy_(seen[drawn, torch.arange(self.groups)[:, None]])

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped codes."""
        pieces = values.unflatten(-1, (self.groups, -1))
        likeness = self.likeness(torch.einsum("...gk,gsk->...gs", pieces, F.normalize(self.codes, dim=-1)))
        chosen = self.chosen(likeness.topk(self.active, -1).indices)
        group = torch.arange(self.groups, device=values.device)[:, None]
        snapped = self.codes[group, chosen].mean(-2)
        self.reconstruction((snapped - pieces.detach()).square().sum(-1).mean())
        return F.linear((snapped + (pieces - pieces.detach())).flatten(-2), self.matrix, self.bias)


@method(
    "codebook-features",
    title="Codebook Features: Sparse and Discrete Interpretability for Neural Networks",
    authors="Tamkin et al.",
    year=2023,
    arxiv="2310.17230",
    idea="A network is tuned on with a codebook at every head, so that hidden states are a few codes, which are read and switched.",
)
def codebooks(
    model: nn.Module, batch: Mapping[str, Tensor], *, codes: int = 1000, active: int = 1, seed: int = 0
) -> dict[str, Coded]:
    """Put a codebook before the last map of each head and of each MLP of a model, in place; gives them by path.

    The codes start at what passes there for a batch; train on with the auxiliary losses of the model.
    """
    places = {f"{path}.output": each.heads for path, each in model.named_modules() if isinstance(each, Attention)}
    places |= {f"{path}.down": 1 for path, each in model.named_modules() if isinstance(each, MLP)}
    if not places:
        raise DoesNotFit("codebooks stand before the last map of an Attention or an MLP; this model has neither")
    with torch.no_grad(), record(model, *(f"{path}.input" for path in places)) as seen:
        model(**batch)
    made = {}
    for path, groups in places.items():
        swap(model, path, spec(Coded, groups=groups, codes=codes, active=active), seed=seed)
        coded = model.get_submodule(path)
        assert isinstance(coded, Coded)
        coded.begin(seen[f"{path}.input"], seed)
        made[path] = coded
    return made
