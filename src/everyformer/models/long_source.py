"""An encoder-decoder for sources of any length: read in overlapping pieces, remembered as one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head
from everyformer.designs import Design, design_of
from everyformer.edits import insert
from everyformer.mixers import CrossAttention
from everyformer.mixers.retrieved import RetrievedAttention
from everyformer.mixers.search import Search
from everyformer.models.seq2seq import Seq2Seq
from everyformer.models.starts import Start, Torch
from everyformer.reduction import DynamicViT
from everyformer.registry import method, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class LongSource(Seq2Seq):
    """A Seq2Seq that encodes pieces of `length` tokens, each half over the one before, and keeps the middle of each.

    Bertsch et al., Unlimiformer, 2023, section 2.1; the first and the last piece keep their ends. Of tokens that the
    encoder drops or merges, the memory holds what is left, at its places.
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
        found: dict[int, dict[str, Tensor]] = {}
        for count in sorted({len(row) for row in rows}):
            which = [i for i, row in enumerate(rows) if len(row) == count]
            found.update(zip(which, self._states(torch.stack([rows[i] for i in which]), context, fields), strict=True))
        states = {name: [found[i][name] for i in range(len(rows))] for name in found[0]}
        whole = {name: pad_sequence(each, batch_first=True) for name, each in states.items()}
        real = pad_sequence([torch.ones_like(each[:, 0], dtype=torch.bool) for each in states["values"]], True)
        context.memory = {**context.memory, "encoder": Tokens(**whole, mask=None if real.all() else real)}
        return context

    def _states(self, rows: Tensor, context: Context, fields: dict[str, Any]) -> list[dict[str, Tensor]]:
        """What the encoder has left of each of several sources of one length, and where it stood."""
        cuts = torch.tensor(pieces(rows.shape[1], self.length), device=rows.device)
        batch = torch.cat([rows[:, start:stop] for start, stop, _ in cuts.tolist()])
        alone = super().prepare(batch, context.replace(memory={}, cache=None), **fields).memory["encoder"]
        start, _, end = cuts.repeat_interleave(len(rows), 0)[..., None].unbind(1)
        begin = F.pad(cuts[:-1, 2], (1, 0)).repeat_interleave(len(rows))[:, None]
        places = alone.places[..., 0] + start
        kept = (places >= begin) & (places < end)
        known = {"values": alone.values, "positions": places[..., None], "weights": alone.weights}
        by_row = {
            name: each.unflatten(0, (len(cuts), -1)).transpose(0, 1).flatten(1, 2)
            for name, each in {**known, "kept": kept if alone.mask is None else kept & alone.mask}.items()
            if each is not None
        }
        stay = by_row.pop("kept")
        return [{name: each[i, stay[i]] for name, each in by_row.items()} for i in range(len(rows))]


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
def unlimiformer(model: Seq2Seq, *, length: int, keep: int | None = None, search: Search | None = None) -> LongSource:
    """A trained encoder-decoder for sources of any length, with its weights: `length` is what it was trained at.

    Each head keeps the best `keep` states (`length` of them, where not given); up to that many nothing changes. They are
    looked for one by one, or by `search`, such as `ef.mixers.FaissSearch()`, as long as the model is held in memory.
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
    if search is not None:
        for module in made.modules():
            if isinstance(module, RetrievedAttention):
                module.search = search
    return made.train(model.training)


@method(
    "hypothesis-a",
    title="Hypothesis A: dynamic token pruning with long-range attention",
    authors="a hypothesis, not a paper",
    year=2026,
    idea="While a long input is read in pieces, drop the tokens that say little; each head searches what is left of all of it.",
)
def pruning_unlimiformer(model: Seq2Seq, *, length: int, keep: float = 0.7, retrieved: int | None = None) -> LongSource:
    """`unlimiformer` with predictors before the encoder's blocks at a third, a half and two thirds of its depth, which
    leave `keep`, keep^2 and keep^3 of the tokens of a piece. They are yet to be trained (objectives.SourcePruning).
    """
    long = unlimiformer(model, length=length, keep=retrieved)
    depth = len(design_of(long).get("encoder.blocks"))
    stages = sorted({round(depth * share) for share in (1 / 3, 1 / 2, 2 / 3)})
    for stage, at in reversed([*enumerate(stages, 1)]):
        insert(long, f"encoder.blocks.{at}", spec(DynamicViT, keep=keep**stage))
    return long
