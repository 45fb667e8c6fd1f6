"""An encoder-decoder for sources of any length: read in overlapping pieces, remembered as one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.designs import Design, design_of
from everyformer.mixers import CrossAttention
from everyformer.mixers.retrieved import RetrievedAttention
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.starts import Start, Torch
from everyformer.registry import method, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class LongSource(Seq2Seq):
    """A Seq2Seq that encodes pieces of `length` tokens, each half over the one before, and keeps the middle of each.

    Bertsch et al., Unlimiformer, 2023, section 2.1; the first and the last piece keep their ends.
    """

    def __init__(
        self,
        *,
        width: int,
        source: Spec[Embedding],
        encoder: Spec[Backbone],
        decoder: Spec[Backbone],
        head: Spec[Head],
        target: Spec[Embedding] | None = None,
        start: Spec[Start] = spec(Torch),  # noqa: B008
        length: int = 1024,
    ) -> None:
        super().__init__(
            width=width, source=source, encoder=encoder, decoder=decoder, head=head, target=target, start=start
        )
        if length < 4:
            raise ValueError(f"length is at least 4, to have a middle; given {length}")
        self.length = length

    def prepare(self, inputs: Tensor, context: Context | None = None, **fields: Any) -> Context:
        """The context that decoding begins with; its memory holds every token of the source."""
        context = context or Context()
        mask, lengths = fields.pop("mask", None), fields.pop("lengths", None)
        if lengths is not None:
            rows = list(inputs[0].split(lengths.tolist()))
        else:
            rows = list(inputs) if mask is None else [row[real] for row, real in zip(inputs, mask, strict=True)]
        states = [self._states(row, context, fields) for row in rows]
        real = (
            torch.arange(max(map(len, states)), device=inputs.device)
            < torch.tensor([len(each) for each in states], device=inputs.device)[:, None]
        )
        memory = Tokens(pad_sequence(states, batch_first=True), mask=None if real.all() else real)
        context.memory = {**context.memory, "encoder": memory}
        return context

    def _states(self, row: Tensor, context: Context, fields: dict[str, Any]) -> Tensor:
        """(N, D): the states of one source."""
        cuts = pieces(len(row), self.length)
        batch = torch.stack([row[start:stop] for start, stop, _ in cuts])
        alone = super().prepare(batch, context.replace(memory={}, cache=None), **fields).memory["encoder"].values
        ends = [end for _, _, end in cuts]
        return torch.cat(
            [
                states[begin - start : end - start]
                for states, (start, _, end), begin in zip(alone, cuts, [0, *ends[:-1]], strict=True)
            ]
        )


def pieces(total: int, length: int) -> list[tuple[int, int, int]]:
    """(start, stop, end of what is kept) of each piece of a source; what is kept begins where the last one's ended."""
    if total <= length:
        return [(0, total, total)]
    starts = [*range(0, total - length, length // 2), total - length]
    return [(start, start + length, start + 3 * length // 4) for start in starts[:-1]] + [(starts[-1], total, total)]


@method(
    "unlimiformer",
    title="Unlimiformer: Long-Range Transformers with Unlimited Length Input",
    authors="Bertsch et al.",
    year=2023,
    arxiv="2305.01625",
    idea="Each head of cross-attention searches all of a long input for the few states it wants, in one shared memory.",
)
def unlimiformer(model: Seq2Seq, *, length: int, keep: int | None = None) -> LongSource:
    """A trained encoder-decoder for sources of any length, with its weights: `length` is what it was trained at.

    Each head keeps the best `keep` states (`length` of them, where not given); up to that many nothing changes.
    """
    design = design_of(model)

    def searching(cross: Spec[Any]) -> Spec[Any]:
        if cross.part is not CrossAttention:
            return cross
        known = ("heads", "head_width", "memory", "memory_width", "bias", "output_bias", "scale")
        kept = {name: value for name, value in cross.options.items() if name in known}
        return spec(RetrievedAttention, **kept, keep=keep or length)

    long = Design(Spec(LongSource, {**design.spec.options, "length": length}), design.name)
    made: LongSource = long.swap("decoder.blocks.*.cross.*", searching).build()
    made.load_state_dict(model.state_dict())
    return made.train(model.training)
