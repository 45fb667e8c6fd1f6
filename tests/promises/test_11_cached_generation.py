"""Promise 11: with a cache, however the tokens come and whatever its policy, a decoder says what it says at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everyformer as ef
from everyformer.cache import Cache, Policy
from everyformer.context import Context
from everyformer.generation import Beam, ChunkAdapters, Chunks, Greedy, Sinks, generate
from everyformer.masks import Causal, Dilated, Mask, Window
from everyformer.models import Model
from everyformer.registry import parts
from everyformer.specs import signature
from everyformer.tokens import Tokens
from support.parts import HEADS, WIDTH, context, make, mixers, spec_of

VOCABULARY, COUNT = 23, 15
LENGTHS = (15, 9, 1)
CHUNKS = {"whole": (15,), "by 1": (1,) * 15, "by 3": (3,) * 5, "by 7": (7, 7, 1)}
POSITIONS: dict[str, tuple[str | None, str | None]] = {
    "none": (None, None),
    "learned": ("Learned", None),
    "sinusoidal": ("Sinusoidal", None),
    "rotary": (None, "Rotary"),
    "alibi": (None, "ALiBi"),
    "buckets": (None, "Buckets"),
}
"""What is added to the embedding, and what all layers share."""


def incremental() -> list[str]:
    """Every mixer of tokens that works with a cache."""
    return [
        name
        for name in mixers()
        if "incremental" in make(name).capabilities and "memory" not in make(name).capabilities
    ]


def decoder(mixer: str, positions: str = "learned", mask: Mask | None = None, cross: bool = False) -> Model:
    """Two blocks around the mixer, a vocabulary and a head, with weights large enough to tell tokens apart."""
    added, shared = POSITIONS[positions]
    heads = {"heads": HEADS} if "heads" in signature(spec_of(mixer).part) else {}
    block = ef.spec(
        ef.backbones.Block,
        mixer=spec_of(mixer, **heads),
        cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),) if cross else (),
        feedforward=ef.spec(ef.feedforward.MLP, hidden=48),
    )
    design = ef.spec(
        Model,
        width=WIDTH,
        embedding=ef.spec(
            ef.embeddings.Text,
            vocabulary=VOCABULARY,
            positions=None if added is None else ef.spec(ef.parts("positions")[added]),
        ),
        backbone=ef.spec(
            ef.backbones.Decoder,
            blocks=(block, block),
            norm=ef.spec(ef.norms.LayerNorm),
            positions=None if shared is None else ef.spec(ef.parts("positions")[shared]),
            mask=mask or Causal(),
        ),
        head=ef.spec(ef.heads.TokenHead, vocabulary=VOCABULARY),
    )
    torch.manual_seed(0)
    model = design.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def begin(batch: int, cross: bool, policy: Policy | None = None) -> Context:
    """A context with a fresh cache."""
    shared = context(batch) if cross else Context()
    return shared.replace(cache=Cache(policy), condition=None)


def chunked(model: Model, ids: Tensor, sizes: tuple[int, ...], state: Context, mask: Tensor | None = None) -> Tensor:
    """The logits of all tokens, given a chunk at a time."""
    found, start = [], 0
    for size in sizes:
        place = slice(start, start + size)
        fields = {} if mask is None else {"mask": mask[:, place]}
        found.append(model.decode(ids[:, place], state, **fields))
        start += size
    return torch.cat(found, 1)


def check(got: Tensor, wanted: Tensor, real: Tensor | None = None) -> None:
    if real is not None:
        got, wanted = got[real], wanted[real]
    assert (wanted - wanted.mean(-1, keepdim=True)).std() > 0.1
    assert (got - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max().item())


CASES = [
    *((name, "learned", None, cross) for name in incremental() for cross in (False, True)),
    *(("mixers.Attention", positions, None, False) for positions in POSITIONS),
    *(("mixers.Attention", "rotary", mask, False) for mask in (Causal() & Window(4), Causal() & Dilated(2))),
]


@pytest.mark.parametrize(("mixer", "positions", "mask", "cross"), CASES)
@torch.no_grad()
def test_logits_are_the_same_however_the_tokens_come(mixer, positions, mask, cross):
    model = decoder(mixer, positions, mask, cross)
    ids = torch.randint(VOCABULARY, (3, COUNT), generator=torch.Generator().manual_seed(1))
    whole = model(ids, context=begin(3, cross).replace(cache=None))
    for sizes in CHUNKS.values():
        check(chunked(model, ids, sizes, begin(3, cross)), whole)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("mixer", "positions", "mask", "cross"), CASES)
@torch.no_grad()
def test_logits_are_the_same_in_a_ragged_batch(mixer, positions, mask, cross, side):
    model = decoder(mixer, positions, mask, cross)
    if "padding" not in make(mixer).capabilities:
        pytest.skip("such a mixer is given sequences of equal length by generate, as tests/generation shows")
    ids = torch.randint(VOCABULARY, (3, COUNT), generator=torch.Generator().manual_seed(1))
    places = torch.arange(COUNT)
    lengths = torch.tensor(LENGTHS)[:, None]
    real = places < lengths if side == "right" else places >= COUNT - lengths
    after = torch.randint(VOCABULARY, (3, 4), generator=torch.Generator().manual_seed(2))
    memory = context(3).memory["encoder"].values
    for sizes in CHUNKS.values():
        state = begin(3, cross)
        prompt = chunked(model, ids, sizes, state, real)
        rest = chunked(model, after, (1, 1, 2), state)
        for row in range(3):
            alone = begin(1, False)
            if cross:
                alone.memory = {"encoder": Tokens(memory[row : row + 1])}
            tokens = torch.cat((ids[row][real[row]], after[row]))[None]
            whole = model(tokens, context=alone.replace(cache=None))[0]
            check(torch.cat((prompt[row][real[row]], rest[row])), whole)


class Everything(Policy):
    """Room for all."""

    def stays(self, cache: Cache, attended: Any = None) -> None:
        return None


class Copied(Policy):
    """All columns named one by one, which goes through dropping."""

    def stays(self, cache: Cache, attended: Any = None) -> Tensor:
        return torch.ones(1, cache.count, dtype=torch.bool)


POLICIES = {
    **{kind.__name__: kind for kind in (Everything, Copied)},
    **{name: kind for name, kind in parts("generation").items() if issubclass(kind, Policy)},
}


def roomy(name: str, model: Model, ids: Tensor) -> Policy:
    """A policy with room for all."""
    if name == "Chunks":
        return Chunks(adapters=ChunkAdapters.of(model, ids, rank=4), keep=1.0)
    options = {"Everything": {}, "Copied": {}, "Sinks": {"sinks": 2, "window": 20}}
    return POLICIES[name](**options.get(name, {"keep": 1.0}))


@pytest.mark.parametrize(
    ("mixer", "policy"),
    [
        (mixer, name)
        for name, kind in POLICIES.items()
        for mixer in incremental()
        if not (kind.looks or kind.gathers) or "attended" in make(mixer).capabilities
    ],
)
@torch.no_grad()
def test_a_policy_with_room_for_everything_changes_nothing(mixer, policy):
    model = decoder(mixer)
    ids = torch.randint(VOCABULARY, (3, COUNT), generator=torch.Generator().manual_seed(1))
    held = roomy(policy, model, ids)
    for sizes in CHUNKS.values():
        check(chunked(model, ids, sizes, begin(3, False, held)), model(ids))


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_a_policy_that_drops_what_nothing_attends_to_changes_nothing(positions):
    model = decoder("mixers.Attention", positions, Causal() & Window(4))
    ids = torch.randint(VOCABULARY, (3, COUNT), generator=torch.Generator().manual_seed(1))
    whole = model(ids)
    for sizes in CHUNKS.values():
        state = begin(3, False, Sinks(sinks=0, window=4))
        check(chunked(model, ids, sizes, state), whole)
        assert state.cache.count == 4
    real = torch.arange(COUNT) >= COUNT - torch.tensor(LENGTHS)[:, None]
    after = torch.randint(VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(2))
    state = begin(3, False, Sinks(sinks=0, window=4))
    chunked(model, ids, (COUNT,), state, real)
    rest = chunked(model, after, (1, 2, 3), state)
    for row in range(3):
        check(rest[row], model(torch.cat((ids[row][real[row]], after[row]))[None])[0, -6:])


@pytest.mark.parametrize("strategy", [Greedy(), Beam(size=3)])
@pytest.mark.parametrize("mixer", incremental())
def test_text_is_the_same_alone_in_any_order_padded_and_without_a_cache(mixer, strategy):
    model = decoder(mixer)
    prompts = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12], [13, 14, 15]]
    options = {"eos": 22, "pad": 0, "max_tokens": 10, "strategy": strategy}
    alone = [generate(model, [p], **options)[0] for p in prompts]
    assert len({tuple(each) for each in alone}) > 2, "the prompts matter"
    assert generate(model, prompts, **options) == alone
    assert generate(model, prompts[::-1], **options) == alone[::-1]
    assert generate(model, prompts, cache=False, **options) == alone
    for left in (True, False):
        ids, mask = torch.zeros(5, 9, dtype=torch.long), torch.zeros(5, 9, dtype=torch.bool)
        for i, p in enumerate(prompts):
            where = slice(9 - len(p), 9) if left else slice(len(p))
            ids[i, where], mask[i, where] = torch.tensor(p), True
        assert generate(model, ids, mask=mask, **options) == alone
