"""What a body said of samples that it has seen, kept without gradient and given back to it as a memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from everyformer.backbones.blocks import Block
from everyformer.backbones.stacks import Encoder
from everyformer.context import Context
from everyformer.contracts import Backbone
from everyformer.errors import BadInput, DoesNotFit
from everyformer.mixers import MemorizingAttention
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens, pack, unpack


@part("backbones")
class Bank(Part):
    """The last `capacity` samples that were written, `each` states of every one: first in, first out.

    A sample has an id of 0 or more; one that is written again is no longer held as it was. All is saved with the weights.
    """

    values: Float[Tensor, "S m D"]
    ids: Int[Tensor, " S"]
    written: Int[Tensor, ""]

    def __init__(self, width: int, *, capacity: int = 1024, each: int = 1) -> None:
        super().__init__()
        if capacity < 1 or each < 1:
            raise ValueError(f"a bank holds at least 1 sample and 1 state of each; given {capacity} and {each}")
        self.capacity, self.each = capacity, each
        self.register_buffer("values", torch.zeros(capacity, each, width))
        self.register_buffer("ids", torch.full((capacity,), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    def forward(self, batch: int, ids: Int[Tensor, " B"] | None = None) -> Tokens:
        """The states as a memory (B, S m, D) of a batch; those of an empty place, and of a sample for itself, are not real."""
        real = (self.ids >= 0)[None]
        if ids is not None:
            real = real & (self.ids != ids[:, None])
        real = real.repeat_interleave(self.each, 1).expand(batch, -1)
        return Tokens(self.values.flatten(0, 1)[None].expand(batch, -1, -1), mask=real)

    @torch.no_grad()
    def write(
        self, states: Float[Tensor, "B m D"], ids: Int[Tensor, " B"], labels: Int[Tensor, " B"] | None = None
    ) -> None:
        """Hold these samples in the places of the oldest ones; buffers are made anew, so that a graph keeps what it read."""
        if states.shape[:2] != (ids.shape[0], self.each):
            raise BadInput(
                f"the bank holds {self.each} states of each sample, and its id; given {tuple(states.shape[:2])} states and "
                f"{ids.shape[0]} ids"
            )
        self.ids = self.ids.masked_fill(torch.isin(self.ids, ids), -1)
        places = (self.written + torch.arange(ids.shape[0], device=ids.device)) % self.capacity
        for name, rows in {"values": states, "ids": ids, **self.more(labels)}.items():
            held = getattr(self, name)
            setattr(self, name, held.index_copy(0, places[-self.capacity :], rows[-self.capacity :].to(held)))
        self.written = self.written + ids.shape[0]

    def more(self, labels: Int[Tensor, " B"] | None) -> dict[str, Tensor]:
        """What else is held of samples, by the name of its buffer."""
        return {}


@part("backbones")
class ClassBank(Bank):
    """A bank that keeps the class of each sample too, and gives with its states a learned vector for that."""

    labels: Int[Tensor, " S"]

    def __init__(self, width: int, *, capacity: int = 1024, each: int = 1, classes: int = 1000) -> None:
        super().__init__(width, capacity=capacity, each=each)
        self.register_buffer("labels", torch.zeros(capacity, dtype=torch.long))
        self.names = nn.Embedding(classes, width)

    def forward(self, batch: int, ids: Int[Tensor, " B"] | None = None) -> Tokens:
        """The same memory, with the vectors of the classes."""
        held = super().forward(batch, ids)
        return held.update(held.values + self.names(self.labels).repeat_interleave(self.each, 0))

    def more(self, labels: Int[Tensor, " B"] | None) -> dict[str, Tensor]:
        """Their classes."""
        if labels is None:
            raise BadInput("the bank keeps the class of each sample; give their labels, or take backbones.Bank")
        return {"labels": labels}


@part("backbones")
class Remembering(Backbone):
    """`body`, with what it said of other samples as a memory of that name: the first states of each in `bank`, without gradient.

    It is written by `keeping` alone. Where `context.ids` says which samples the batch is of, none is given back to itself.
    """

    def __init__(
        self,
        width: int,
        *,
        body: Spec[Backbone] = spec(Encoder, blocks=(spec(Block, mixer=spec(MemorizingAttention, memory="bank")),)),  # noqa: B008
        bank: Spec[Bank] = spec(Bank),  # noqa: B008
        memory: str = "bank",
    ) -> None:
        super().__init__()
        self.memory = memory
        self.body: Backbone = self.make("body", body, width)
        self.gives, self.widths = self.body.gives, self.body.widths
        self.bank: Bank = self.make("bank", bank, self.gives or width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the body."""
        context = context or Context()
        batch = tokens.batch if tokens.lengths is None else tokens.lengths.shape[0]
        held = self.bank(batch, context.ids)
        return self.body(tokens, context.replace(memory={**context.memory, self.memory: held}))

    def keep(self, said: Tokens, ids: Int[Tensor, " B"], labels: Int[Tensor, " B"] | None) -> None:
        """Write what the body said of samples."""
        whole = unpack(pack(said) if said.lengths is None else said)
        self.bank.write(whole.values[:, : self.bank.each], ids, labels)


@contextmanager
def keeping(model: nn.Module, ids: Int[Tensor, " B"], labels: Int[Tensor, " B"] | None = None) -> Iterator[None]:
    """While inside, the banks of a model hold what it says of these samples, once it has said it."""
    found = [module for module in model.modules() if isinstance(module, Remembering)]
    if not found:
        raise DoesNotFit("the model has no backbones.Remembering, which keeps what is said of samples", "backbone")
    with ExitStack() as stack:
        for each in found:
            hook = each.register_forward_hook(lambda memory, given, said: memory.keep(said, ids, labels))
            stack.callback(hook.remove)
        yield
