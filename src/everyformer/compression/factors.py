"""Linear maps of a small dense matrix and a sparse one (Chand et al., DSFormer, 2023)."""

from __future__ import annotations

import copy
from itertools import cycle, islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.compression.calibration import BLOCKS, Calibration, labelled, linears
from everyformer.compression.sparse import largest
from everyformer.contracts import LinearMap
from everyformer.edits import swap
from everyformer.errors import BadInput
from everyformer.objectives.base import Objective
from everyformer.registry import method, part
from everyformer.specs import spec

ROUNDS = 10
"""How often atoms and what each output takes of them are fitted in turn."""


def pursuit(
    weight: Float[Tensor, "E D"], atoms: Float[Tensor, "R D"], count: int
) -> tuple[Int[Tensor, "E K"], Float[Tensor, "E K"]]:
    """For each row of a weight `count` atoms, the one nearest to what is left after the other, and how much of each.

    Orthogonal matching pursuit (Pati et al., 1993), all rows at once.
    """
    among, wanted = atoms @ atoms.T, weight @ atoms.T
    reach = atoms.norm(dim=1).clamp(min=1e-12)
    places = torch.empty(len(weight), 0, dtype=torch.long, device=weight.device)
    values = weight.new_empty(len(weight), 0)
    for _ in range(count):
        left = wanted - torch.einsum("ek,ekr->er", values, among[places])
        best = (left.abs() / reach).scatter(1, places, -1.0).argmax(1, keepdim=True)
        places = torch.cat((places, best), 1)
        inner = among[places[:, :, None], places[:, None]]
        inner = inner + 1e-9 * inner.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(inner.shape[1]).to(
            inner
        )
        values = torch.linalg.solve(inner, wanted.gather(1, places))
    return places, values


def factored(
    weight: Float[Tensor, "E D"], rank: int, count: int
) -> tuple[Float[Tensor, "R D"], Int[Tensor, "E K"], Float[Tensor, "E K"]]:
    """`rank` atoms, and for each row of a weight `count` of them: the atoms begin as the singular vectors of the weight.

    Then they are fitted to what takes them, in turn (method of optimal directions, Engan et al., 1999).
    """
    weight = weight.double()
    atoms = torch.linalg.svd(weight, full_matrices=False).Vh[:rank]
    best: tuple[Tensor, Tensor, Tensor] | None = None
    least = float("inf")
    for _ in range(ROUNDS):
        places, values = pursuit(weight, atoms, count)
        taken = spread(places, values, rank)
        error = float((weight - taken @ atoms).square().sum())
        if error < least:
            best, least = (atoms, places, values), error
        atoms = torch.linalg.lstsq(taken, weight, driver="gelsd").solution
        unused = ~taken.any(0)
        worst = (weight - taken @ atoms).norm(dim=1).argsort(descending=True)
        atoms[unused] = weight[worst[: int(unused.sum())]]
    assert best is not None
    return best


def spread(places: Int[Tensor, "E K"], values: Float[Tensor, "E K"], rank: int) -> Float[Tensor, "E R"]:
    """The sparse matrix as a dense one."""
    return values.new_zeros(len(values), rank).scatter(1, places.long(), values)


class _Factors(LinearMap):
    """What both forms share: `rank` atoms, of which each output takes `nonzeros`."""

    def __init__(self, inputs: int, outputs: int, bias: bool, rank: int, nonzeros: int) -> None:
        super().__init__(inputs, outputs, bias)
        if not 1 <= rank <= min(inputs, outputs) or not 1 <= nonzeros <= rank:
            raise BadInput(
                f"a map from {inputs} to {outputs} has 1 to {min(inputs, outputs)} atoms, of which an output takes 1 to all; "
                f"given rank={rank} and nonzeros={nonzeros}"
            )
        self.rank, self.nonzeros = rank, nonzeros
        self.atoms = nn.Linear(inputs, rank, bias=False)

    def each(self) -> Int[Tensor, "E K"]:
        """Which atoms each output takes before it is told: neighbours, so that all are taken."""
        return (torch.arange(self.out_features)[:, None] + torch.arange(self.nonzeros)) % self.rank

    @property
    def taken(self) -> Float[Tensor, "E R"]:
        """What each output takes of each atom."""
        raise NotImplementedError

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        return self.taken @ self.atoms.weight

    def put(self, atoms: Float[Tensor, "R D"], taken: Float[Tensor, "E R"]) -> None:
        """Set both factors."""
        raise NotImplementedError

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """The factors nearest to a matrix that the pursuit finds."""
        atoms, places, values = factored(weight, self.rank, self.nonzeros)
        self.put(atoms, spread(places, values, self.rank))

    @torch.no_grad()
    def inherit(self, old: nn.Module) -> None:
        """Factors of the same shape are taken over as they are."""
        if not isinstance(old, _Factors) or (old.rank, old.nonzeros) != (self.rank, self.nonzeros):
            return super().inherit(old)
        self.put(old.atoms.weight, old.taken)
        if self.bias is not None and old.bias is not None:
            self.bias.copy_(old.bias)
        return None

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        return F.linear(self.atoms(values), self.taken, self.bias)

    def extra_repr(self) -> str:
        """Sizes, atoms and how many an output takes."""
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, nonzeros={self.nonzeros}"


@part("compression")
class DenseSparse(_Factors):
    """S D x + b: D of `rank` atoms, S with `nonzeros` in each row, of which values and places are kept.

    It takes over a map by orthogonal matching pursuit. S is multiplied as a dense matrix, so that it saves bytes and
    little time.
    """

    places: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, rank: int = 16, nonzeros: int = 4) -> None:
        super().__init__(inputs, outputs, bias, rank, nonzeros)
        self.values = nn.Parameter(torch.randn(outputs, nonzeros) * nonzeros**-0.5)
        self.register_buffer("places", self.each().to(torch.uint8 if rank <= 256 else torch.int16))

    @property
    def taken(self) -> Float[Tensor, "E R"]:
        """S."""
        return spread(self.places, self.values, self.rank)

    def put(self, atoms: Float[Tensor, "R D"], taken: Float[Tensor, "E R"]) -> None:
        """Set both factors, of S the largest in each row."""
        self.atoms.weight.copy_(atoms)
        self.places.copy_(taken.abs().topk(self.nonzeros, 1).indices)
        self.values.copy_(taken.gather(1, self.places.long()))


@part("compression")
class StraightThrough(_Factors):
    """The same while it is trained: all of S is learnt, its largest in each row are used, and the gradient passes as if all were.

    (The straight-through factorizer.)
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True, *, rank: int = 16, nonzeros: int = 4) -> None:
        super().__init__(inputs, outputs, bias, rank, nonzeros)
        self.latent = nn.Parameter(spread(self.each(), torch.randn(outputs, nonzeros) * nonzeros**-0.5, rank))

    @property
    def mask(self) -> Bool[Tensor, "E R"]:
        """Which are the largest of their row."""
        return largest(self.latent.abs(), self.nonzeros)

    @property
    def taken(self) -> Float[Tensor, "E R"]:
        """S as it is used."""
        return self.latent + (self.latent * self.mask - self.latent).detach()

    def put(self, atoms: Float[Tensor, "R D"], taken: Float[Tensor, "E R"]) -> None:
        """Set both factors."""
        self.atoms.weight.copy_(atoms)
        self.latent.copy_(taken)


@method(
    "dsformer",
    title="DSFormer: Effective Compression of Text-Transformers by Dense-Sparse Weight Factorization",
    authors="Chand et al.",
    year=2023,
    arxiv="2312.13211",
    idea="Each weight as a few atoms and a sparse matrix that says which of them each output takes, trained for the task.",
)
def dsformer(
    model: nn.Module,
    calibration: Calibration,
    objective: Objective,
    *,
    rank: int = 16,
    nonzeros: int = 4,
    steps: int = 100,
    lr: float = 1e-3,
    paths: str = BLOCKS,
) -> nn.Module:
    """A copy of the model with factors in place of the maps at `paths`, all trained together by the loss for some batches."""
    if steps < 0:
        raise BadInput(f"the factors are trained for no steps or some; given {steps}")
    chosen = [*linears(model, paths)]
    made = swap(
        copy.deepcopy(model).eval(), chosen, spec(StraightThrough, rank=rank, nonzeros=nonzeros)
    ).requires_grad_(False)
    for path in chosen:
        made.get_submodule(path).requires_grad_(True)
    adam = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr)
    for batch in islice(cycle(labelled(calibration, model)), steps):
        loss = objective(made, batch)
        adam.zero_grad()
        (loss.total / loss.count).backward()
        adam.step()
    return swap(made, chosen, spec(DenseSparse, rank=rank, nonzeros=nonzeros)).requires_grad_(True)
