"""Tokens: packing, unpacking, and passing through compile and export."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree

from everyformer.context import Cache, Context, running_positions
from everyformer.tokens import Groups, Tokens, documents, order, pack, unpack, within
from support.parts import close, make, tokens

MASK = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()


def test_pack_then_unpack_gives_every_real_token_back() -> None:
    whole = tokens(4, 4).replace(mask=MASK, weights=torch.arange(16.0).view(4, 4), marked=MASK.flip(1), prefix=1)
    packed = pack(whole)
    assert packed.values.shape == (1, 9, whole.width)
    assert packed.lengths.tolist() == [3, 2, 0, 4]
    assert packed.positions[0, :, 0].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    back = unpack(packed)
    assert back.mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    assert torch.equal(back.values[back.mask], whole.values[MASK])
    assert torch.equal(back.weights[back.mask], whole.weights[MASK])
    assert torch.equal(back.marked[back.mask], whole.marked[MASK])
    assert Groups(packed.lengths, 9).tokens(packed)[1].marked.tolist() == [[True, True, False]]
    assert back.prefix == 1
    assert not back.values[~back.mask].any()


def test_places_follow_the_real_tokens() -> None:
    assert order(MASK).tolist() == [[0, 0, 1, 2], [0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]]
    lengths = torch.tensor([2, 0, 3])
    assert within(lengths, 5).tolist() == [0, 1, 0, 1, 2]
    assert documents(lengths, 5).tolist() == [0, 0, 2, 2, 2]
    assert tokens(3).places[0, :, 0].tolist() == [0, 1, 2]
    assert Tokens(torch.zeros(1, 5, 2), lengths=lengths).places[0, :, 0].tolist() == [0, 1, 0, 1, 2]
    assert tokens(4, 4).replace(mask=MASK).places[0, 1:, 0].tolist() == [0, 1, 2]


def test_mean_counts_real_tokens_by_their_weight() -> None:
    values = torch.tensor([[[1.0], [2.0], [100.0]], [[4.0], [8.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    weights = torch.tensor([[1.0, 3.0, 1.0], [1.0, 1.0, 2.0]])
    padded = Tokens(values, mask=mask, weights=weights)
    close(padded.mean(), torch.tensor([[1.75], [6.0]]))
    close(pack(padded).mean(), padded.mean())
    close(Tokens(values, mask=mask).mean(skip=1), torch.tensor([[2.0], [7.0]]))
    close(pack(Tokens(values, mask=mask)).mean(skip=1), torch.tensor([[2.0], [7.0]]))
    assert Tokens(values, mask=torch.zeros(2, 3).bool()).mean().isfinite().all()


def test_zeroed_and_replace() -> None:
    whole = tokens(4, 4).replace(mask=MASK)
    assert not whole.zeroed()[~MASK].any()
    assert torch.equal(whole.zeroed()[MASK], whole.values[MASK])
    changed = whole.update(whole.values * 2)
    assert all(getattr(changed, f.name) is getattr(whole, f.name) for f in dataclasses.fields(Tokens)[1:])


def test_is_a_pytree() -> None:
    whole = tokens(4, 4).replace(mask=MASK, grid=(2, 2), prefix=0)
    back = _pytree.tree_map(lambda x: x * 1 if isinstance(x, torch.Tensor) else x, whole)
    assert isinstance(back, Tokens)
    assert torch.equal(back.values, whole.values)
    assert back.grid == (2, 2)


def test_passes_through_compile_without_a_break() -> None:
    block = make("backbones.Block")

    def run(whole: Tokens) -> Tokens:
        return block(whole, Context())

    compiled = torch.compile(run, backend="eager", fullgraph=True)
    for whole in (tokens(), tokens(4, 4).replace(mask=MASK), tokens(4, 4).replace(mask=MASK, weights=torch.ones(4, 4))):
        close(compiled(whole).values, run(whole).values)


def test_passes_through_export() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = make("backbones.Block")

        def forward(self, whole: Tokens) -> Tokens:
            return self.block(whole)

    whole = tokens(4, 4).replace(mask=MASK)
    exported = torch.export.export(Two(), (whole,)).module()
    again = exported(whole)
    assert isinstance(again, Tokens)
    close(again.values, Two()(whole).values)


def test_cache_counts_real_tokens() -> None:
    cache = Cache()
    first = Tokens(torch.zeros(2, 3, 1), mask=torch.tensor([[1, 1, 0], [1, 1, 1]]).bool())
    cache.advance(first)
    assert (cache.count, cache.mask.tolist()) == (3, [[True, True, False], [True, True, True]])
    places = running_positions(None, 2, torch.device("cpu"), Context(cache=cache))
    assert places[..., 0].tolist() == [[2, 3], [3, 4]]
    cache.advance(Tokens(torch.zeros(2, 1, 1)))
    assert cache.mask.tolist() == [[True, True, False, True], [True, True, True, True]]
    cache.select(torch.tensor([1, 1]))
    assert cache.mask.all()


def test_context_select_reorders_everything() -> None:
    module = torch.nn.Identity()
    context = Context(
        cache=Cache(), memory={"encoder": Tokens(torch.arange(3.0).view(3, 1, 1))}, condition=torch.arange(3.0)[:, None]
    )
    context.cache.extend(module, key=torch.arange(3.0).view(3, 1, 1, 1))
    context.select(torch.tensor([2, 0]))
    assert context.cache.held(module)["key"].flatten().tolist() == [2, 0]
    assert context.memory["encoder"].values.flatten().tolist() == [2, 0]
    assert context.condition.flatten().tolist() == [2, 0]


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_packing_any_mask_keeps_every_real_token_and_its_place(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    values = torch.randn(*mask.shape, 3)
    whole = Tokens(values, mask=mask)
    packed = pack(whole)
    assert torch.equal(packed.values[0], values[mask])
    assert torch.equal(packed.places[0, :, 0], whole.places[..., 0][mask])
    assert packed.lengths.tolist() == mask.sum(1).tolist()
    close(packed.mean(), whole.mean())
    if mask.any():
        back = unpack(packed)
        assert torch.equal(back.values[back.mask], values[mask])
        assert torch.equal(back.places[back.mask], packed.places[0])
