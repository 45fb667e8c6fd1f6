"""Slots: vectors that compete for the cells of a picture, and what a decoder rebuilds of the picture from them alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Head
from everyformer.errors import DoesNotFit
from everyformer.heads.queries import Perceptron
from everyformer.masks import scrambled
from everyformer.registry import Part, part
from everyformer.specs import Spec
from everyformer.tokens import Tokens

SLOTS, LOOKED = "slots", "looked"
"""The memory in which the body finds the slots, and the note in which its last block says where it looked."""
ORDERS = 9


@part("heads")
class SlotAttention(Part):
    """Slots that are drawn at random and share the cells out between them, in some rounds: each takes the mean of its own,
    and a GRU and an MLP make of it what the slot is next (Locatello et al., 2020, algorithm 1).

    The draw is always the same one but in training. Answers with the slots (B, S, E) and, of the last round, the scores of
    the cells (B, S, N), of which a softmax over the slots says whose each cell is.
    """

    def __init__(
        self, width: int, *, slots: int = 7, slot_width: int = 256, iterations: int = 3, hidden: int = 1024
    ) -> None:
        super().__init__()
        self.slots, self.slot_width, self.iterations = slots, slot_width, iterations
        self.norm = nn.LayerNorm(width)
        self.enter = Perceptron(width, width, width)
        self.cell_norm = nn.LayerNorm(width)
        self.slot_norm = nn.LayerNorm(slot_width)
        self.query = nn.Linear(slot_width, slot_width, bias=False)
        self.key = nn.Linear(width, slot_width, bias=False)
        self.value = nn.Linear(width, slot_width, bias=False)
        self.gru = nn.GRUCell(slot_width, slot_width)
        self.mlp_norm = nn.LayerNorm(slot_width)
        self.mlp = Perceptron(slot_width, hidden, slot_width)
        self.start = self.begins()

    def begins(self) -> nn.Module:
        """What slots begin as."""
        return _Drawn(self.slots, self.slot_width)

    def first(self, batch: int, context: Context | None) -> Float[Tensor, "B S E"]:
        """The slots before the first round."""
        return self.start(batch, None if context is None else context.generator)

    def entering_last(self, slots: Float[Tensor, "B S E"], first: Float[Tensor, "B S E"]) -> Float[Tensor, "B S E"]:
        """The slots as the last round is given them."""
        return slots

    def forward(
        self, cells: Float[Tensor, "B N D"], context: Context | None = None
    ) -> tuple[Float[Tensor, "B S E"], Float[Tensor, "B S N"]]:
        """The slots, and their scores for the cells."""
        cells = self.cell_norm(self.enter(self.norm(cells)))
        key, value = self.key(cells) * self.slot_width**-0.5, self.value(cells)
        first = slots = self.first(cells.shape[0], context)
        for rounds_left in reversed(range(self.iterations)):
            if not rounds_left:
                slots = self.entering_last(slots, first)
            scores = self.query(self.slot_norm(slots)) @ key.mT
            shares = scores.softmax(1) + 1e-8
            found = (shares / shares.sum(-1, keepdim=True)) @ value
            slots = self.gru(found.flatten(0, 1), slots.flatten(0, 1)).view_as(found)
            slots = slots + self.mlp(self.mlp_norm(slots))
        return slots, scores


@part("heads")
class LearnedSlots(SlotAttention):
    """The same, where each slot begins as a vector of its own, which the gradient of the last round reaches past the others
    (Jia et al., BO-QSA, 2023, section 3.2).
    """

    def begins(self) -> nn.Module:
        """What slots begin as."""
        return nn.Embedding(self.slots, self.slot_width)

    def first(self, batch: int, context: Context | None) -> Float[Tensor, "B S E"]:
        """The slots before the first round."""
        return self.start(torch.arange(self.slots, device=self.query.weight.device)).expand(batch, -1, -1)

    def entering_last(self, slots: Float[Tensor, "B S E"], first: Float[Tensor, "B S E"]) -> Float[Tensor, "B S E"]:
        """The slots as they are, the gradient of those before the first round."""
        return slots.detach() + (first - first.detach())


class _Drawn(nn.Module):
    """Slots of a normal law that is learnt; in use the draw is always the same."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self.shape, reach = (slots, width), math.sqrt(3 / width)
        self.mean = nn.Parameter(torch.empty(width).uniform_(-reach, reach))
        self.deviation = nn.Parameter(torch.empty(width).uniform_(-reach, reach))

    def forward(self, batch: int, generator: torch.Generator | None) -> Float[Tensor, "B S E"]:
        """A draw for each sample; `deviation` is its logarithm."""
        if self.training:
            shape, mean = (batch, *self.shape), self.mean
            noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
        else:
            at = torch.arange(math.prod(self.shape), device=self.mean.device)
            chance = (scrambled(at * 0x9E3779B1 + 1 & 0xFFFFFFFF).double() + 0.5) / 2**32
            noise = torch.special.ndtri(chance).to(self.mean.dtype).view(1, *self.shape).expand(batch, -1, -1)
        return self.mean + self.deviation.exp() * noise


@part("heads")
class SlotMasks(Head):
    """Slots, and a causal `body` that rebuilds the cells from them one after the other, each with those before it at hand:
    a cell's slot is that at which the body looks when it rebuilds it (Kakogeorgiou et al., SPOT, 2024, sections 3.1 and 3.3).

    In training the cells come in one of `orders` orders, drawn for each batch, so that those before a cell do not tell
    enough of it; else by rows, as with a single order. The body reads the slots as the memory "slots", and its last block notes
    where it looked. The answer is which share of each cell is each slot's, (B, S, Y, X); noted are the `cells` (B, N, D), what
    is `rebuilt` of them, and the `scores` of the slots (B, S, N).
    """

    needs_grid = True

    def __init__(self, width: int, *, body: Spec[Backbone], slots: Spec[SlotAttention], orders: int = ORDERS) -> None:
        super().__init__()
        if not 1 <= orders <= ORDERS:
            raise ValueError(f"orders is a number from 1 to {ORDERS}; given {orders}")
        self.slots: SlotAttention = self.make("slots", slots, width)
        self.orders = nn.Embedding(orders, width)
        nn.init.normal_(self.orders.weight, std=0.02)
        # The second norm is that of the first block, which in the authors' decoder norms the tokens themselves.
        self.enter = nn.Sequential(nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.LayerNorm(width))
        self.of_slots = nn.Sequential(nn.Linear(self.slots.slot_width, width, bias=False), nn.LayerNorm(width))
        self.body: Backbone = self.make("body", body, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B S Y X"]:
        """The share of each slot in each cell."""
        assert tokens.grid is not None
        cells = tokens.values[:, tokens.prefix :]
        slots, scores = self.slots(cells, context)
        which = self.which(context, cells.device)
        order = ways(tokens.grid, cells.device).index_select(0, which)[0]
        before = torch.cat((self.orders(which).expand(cells.shape[0], 1, -1), cells[:, order[:-1]]), 1)
        notes: dict[str, Tensor] = {}
        inside = Context(memory={SLOTS: Tokens(self.of_slots(slots))}, notes=notes)
        rebuilt = self.body(Tokens(self.enter(before)), inside).values
        if LOOKED not in notes:
            raise DoesNotFit(
                f"no block notes where it looked; give the last cross-attention steps=(ef.spec(scores.Noted, name='{LOOKED}'),)",
                "body",
            )
        back = order.argsort()
        if context is not None and context.notes is not None:
            context.notes.update(cells=cells, rebuilt=rebuilt[:, back], scores=scores)
        return notes[LOOKED][:, back].mT.unflatten(-1, tokens.grid)

    def which(self, context: Context | None, device: torch.device) -> Int[Tensor, "1"]:
        """The number of the order."""
        if not self.training:
            return torch.zeros(1, dtype=torch.long, device=device)
        generator = None if context is None else context.generator
        return torch.randint(self.orders.num_embeddings, (1,), generator=generator, device=device)


def ways(grid: tuple[int, ...], device: torch.device) -> Int[Tensor, "9 N"]:
    """Nine orders of the cells of a grid: by rows and by columns from each corner, and a spiral that ends in the corner on
    the upper right (Kakogeorgiou et al., SPOT, 2024, their code).
    """
    rows = torch.arange(math.prod(grid), device=device).view(grid)
    left, below = rows.flip(1), rows.flip(0)
    turned = below.flip(1)
    spiral, rest = [], rows.rot90()
    while len(rest):
        spiral.append(rest[0])
        rest = rest[1:].rot90()
    return torch.stack(
        [each.flatten() for each in (rows, rows.T, left.T, left, turned.T, turned, below.T, below)]
        + [torch.cat(spiral).flip(0)]
    )
