"""`generate`: prompts or sources in, new tokens out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.cache import Cache, MemoryPolicy, Policy
from everyformer.columns import Storage
from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Decoding, cacheable, takes_padding
from everyformer.generation.eviction import shown
from everyformer.generation.prefixes import Prefix
from everyformer.generation.stops import Ends, Stop
from everyformer.generation.strategies import Greedy, Hypothesis, Strategy, Stream
from everyformer.models import Model, Seq2Seq
from everyformer.specs import Spec
from everyformer.tokens import unpack

Ids = Sequence[Sequence[int]]


def generate(model: Model | Seq2Seq, inputs: Tensor | Ids, **options: Any) -> list[list[int]]:
    """The new tokens of each sequence, without prompt, bos and end token; the options are those of `hypotheses`."""
    return [best[0].tokens for best in hypotheses(model, inputs, **options)]


def hypotheses(
    model: Model | Seq2Seq,
    inputs: Tensor | Ids,
    *,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    bos: int | Sequence[int] | None = None,
    eos: int | Iterable[int] | None,
    pad: int,
    max_tokens: int,
    strategy: Strategy | Spec[Strategy] | None = None,
    stop: Iterable[Stop] = (),
    stream: Stream | None = None,
    cache: bool = True,
    policy: Policy | Spec[Policy] | None = None,
    storage: Storage | Spec[Storage] | None = None,
    memories: MemoryPolicy | Spec[MemoryPolicy] | None = None,
    prefix: Prefix | None = None,
) -> list[list[Hypothesis]]:
    """For each sequence its hypotheses, the best first (several where the strategy is `Beam`).

    Args:
        model: a decoder-only `Model`, whose `inputs` are prompts, or a `Seq2Seq`, whose `inputs` are sources.
        inputs: (B, N), or lists of ids of any lengths; a source may be whatever the model's encoder takes.
        mask: (B, N), true where an input is real; padding may stand on either side.
        lengths: (S,), where the inputs are packed as (1, T).
        bos: what a Seq2Seq begins with; put before each prompt of a decoder-only model where given.
        eos: the token or tokens that end a sequence; None for none.
        pad: fills the places that a mask leaves out.
        max_tokens: how many new tokens at most, the end token counted.
        strategy: how tokens are chosen; `Greedy` by default.
        stop: sequences of ids, and `StopText`s, that end a sequence; they stay at its end.
        stream: called with the number of the sequence and each new token.
        cache: off, each step computes all tokens again, as it must where a mixer is not incremental.
        policy: which of the cached tokens of the decoder are kept; all by default.
        storage: how they are held; as they are by default.
        memories: which tokens of its source each cross-attention of a Seq2Seq keeps; all by default.
        prefix: what stands before every prompt, read before (see `read`); its policy and storage go on.
    """
    chosen: Strategy = made(strategy) or Greedy()
    ends = Ends(eos, stop)
    if max_tokens < 0:
        raise BadInput(f"max_tokens is {max_tokens}; give 0 or more")
    if model.head is None:
        raise DoesNotFit("generation needs a head with logits for each token; the model has none", "head")
    if prefix is not None and (isinstance(model, Seq2Seq) or not cache or policy is not None or storage is not None):
        raise BadInput(
            "a prefix is for a decoder-only model, goes on in its cache and with the policy it was read with"
        )
    begin = [] if bos is None else [bos] if isinstance(bos, int) else list(bos)
    with torch.inference_mode(), evaluating(model):
        if isinstance(model, Seq2Seq):
            held = _cache(model.decoder, cache, made(policy), made(storage), made(memories))
            decoding = _translation(model, inputs, mask, lengths, begin, pad, held)
            return _run(chosen, decoding, ends, max_tokens, stream)
        if memories is not None:
            raise BadInput(
                "a decoder-only model has no memory to drop tokens of; `policy` drops those that it has seen"
            )
        prompts = _prompts(inputs, mask, lengths, begin)
        found: list[list[Hypothesis]] = [[] for _ in prompts]
        for rows in _batches(model, prompts):
            ids, real = _padded([prompts[r] for r in rows], pad, _device(model), left=True)
            if prefix is None:
                held = _cache(model.backbone, cache, made(policy), made(storage))
                decoding = Decoding(model, Context(cache=held), ids, real)
            else:
                decoding = prefix.continued(model, ids, real)
            named = None if stream is None else lambda i, token, rows=rows: stream(rows[i], token)
            for row, best in zip(rows, _run(chosen, decoding, ends, max_tokens, named)):
                found[row] = best
        return found


def read(
    model: Model,
    ids: Sequence[int],
    *,
    policy: Policy | Spec[Policy] | None = None,
    storage: Storage | Spec[Storage] | None = None,
) -> Prefix:
    """A beginning that many prompts share, read once, for `generate(model, prompts, prefix=read(model, ids))`."""
    held = _cache(model.backbone, True, made(policy), made(storage))
    if held is None:
        raise DoesNotFit("a prefix is kept in a cache, and a mixer here works with none", "backbone")
    with evaluating(model):
        return Prefix.read(model, ids, held)


def made(part: Any) -> Any:
    """The part that a spec describes; a part, or None, as it is."""
    return part.build() if isinstance(part, Spec) else part


def _cache(
    decoder: nn.Module,
    wanted: bool,
    policy: Policy | None,
    storage: Storage | None,
    memories: MemoryPolicy | None = None,
) -> Cache | None:
    if wanted and cacheable(decoder):
        if policy is not None and (policy.looks or policy.gathers):
            shown(decoder)
        if policy is not None and policy.closes and storage is not None and not storage.moves:
            raise DoesNotFit(
                f"{type(policy).__name__} turns keys to new places, and {type(storage).__name__} holds them as they stood; "
                "give another policy",
                "policy",
            )
        return Cache(policy, storage, memories)
    if policy is not None or storage is not None or memories is not None:
        raise DoesNotFit("a cache policy needs a cache, and a mixer here works with none", "backbone")
    return None


def _run(
    strategy: Strategy, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None
) -> list[list[Hypothesis]]:
    if max_tokens == 0 or len(decoding.ids) == 0:
        return [[Hypothesis([])] for _ in decoding.ids]
    return strategy(decoding, ends, max_tokens, stream)


def _translation(
    model: Seq2Seq,
    inputs: Tensor | Ids,
    mask: Tensor | None,
    lengths: Tensor | None,
    begin: list[int],
    pad: int,
    cache: Cache | None,
) -> Decoding:
    if not begin:
        raise BadInput("an encoder-decoder begins its target with a token; give bos=")
    device = _device(model)
    if not isinstance(inputs, Tensor):
        if not all(inputs):
            raise BadInput("a source is empty; give each at least one token")
        inputs, mask = _padded(inputs, pad, device, left=False)
    given = {"mask": mask, "lengths": lengths}
    fields = {name: value.to(device) for name, value in given.items() if value is not None}
    context = model.prepare(inputs.to(device), Context(cache=cache), **fields)
    context.memory = {k: t if t.lengths is None else unpack(t) for k, t in context.memory.items()}
    batch = context.memory["encoder"].batch
    return Decoding(model, context, torch.tensor(begin, device=device).expand(batch, -1))


def _prompts(inputs: Tensor | Ids, mask: Tensor | None, lengths: Tensor | None, begin: list[int]) -> list[list[int]]:
    if not isinstance(inputs, Tensor):
        rows = [list(row) for row in inputs]
    elif lengths is not None:
        rows = [row.tolist() for row in inputs[0].split(lengths.tolist())]
    elif mask is not None:
        rows = [row[kept].tolist() for row, kept in zip(inputs, mask)]
    else:
        rows = inputs.tolist()
    rows = [begin + row for row in rows]
    empty = [i for i, row in enumerate(rows) if not row]
    if empty:
        raise BadInput(f"prompt {empty[0]} is empty; give each at least one token, or bos= to begin with")
    return rows


def _batches(model: Model, prompts: Ids) -> list[list[int]]:
    """Prompts that go through the model together: all, or those of equal length where a mixer takes no padding."""
    if takes_padding(model.backbone):
        return [list(range(len(prompts)))]
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(row)
    return list(groups.values())


def _padded(rows: Ids, pad: int, device: torch.device, *, left: bool) -> tuple[Tensor, Tensor | None]:
    longest = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        ids[i, place], mask[i, place] = torch.tensor(row, dtype=torch.long), True
    return ids.to(device), None if mask.all() else mask.to(device)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout; every module is as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
