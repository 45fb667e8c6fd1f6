"""`unlimiformer`: the limits that keep everything, the search that ranks as the heads do, and sources read in pieces."""

import copy
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import everyformer as ef
from everyformer.context import Context
from everyformer.generation import generate
from everyformer.models.long_source import pieces
from support.parity import ids, ragged
from support.parts import MEMORY, close, context, make, tokens


def base():
    made = ef.create("transformer", vocabulary=17, width=32, hidden=48, depth=2, heads=4, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return made


@pytest.mark.parametrize("chunk", [2, 100])
def test_keeping_every_token_is_cross_attention(chunk):
    """Answers and gradients, the memory searched in one piece and in several, padding among it."""
    mixer = make("mixers.RetrievedAttention", heads=4, keep=MEMORY, chunk=chunk)
    plain = ef.mixers.CrossAttention(32, heads=4)
    plain.load_state_dict(mixer.state_dict())
    shared = context()
    shared.memory["encoder"].mask = torch.arange(MEMORY) < torch.tensor([MEMORY, 2, 4])[:, None]
    found, wanted = mixer(tokens(), shared), plain(tokens(), shared)
    close(found, wanted)
    found.square().sum().backward()
    wanted.square().sum().backward()
    for (name, one), other in zip(mixer.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_each_head_keeps_the_tokens_of_its_largest_scores():
    """Attention over the two best keys of each head and query, taken by plain scores with biases and all."""
    mixer, shared = make("mixers.RetrievedAttention", heads=4, keep=2), context()
    states = shared.memory["encoder"].values
    q = mixer.query(tokens().values).unflatten(-1, (4, 8)).transpose(1, 2)
    k, v = (x.unflatten(-1, (4, 8)).transpose(1, 2) for x in mixer.key_value(states).chunk(2, -1))
    scores = q @ k.mT * 8**-0.5
    kept = scores >= scores.topk(2).values[..., -1:]
    weights = scores.masked_fill(~kept, -torch.inf).softmax(-1)
    close(mixer(tokens(), shared), mixer.output((weights @ v).transpose(1, 2).flatten(2)))


def test_what_is_left_out_is_bounded_by_its_weight():
    """The error is at most twice the left-out weight times the largest value, and falls as more is kept."""
    shared, errors = context(), []
    plain = ef.mixers.CrossAttention(32, heads=1)
    with torch.no_grad():
        plain.output.weight.copy_(torch.eye(32))
        plain.output.bias.zero_()
    seen = []
    plain.weights.register_forward_hook(lambda module, inputs, output: seen.append(output))
    wanted = plain(tokens(), shared)
    largest = plain.key_value(shared.memory["encoder"].values)[..., 32:].norm(dim=-1).max()
    for keep in range(1, MEMORY + 1):
        mixer = ef.mixers.RetrievedAttention(32, heads=1, keep=keep)
        mixer.load_state_dict(plain.state_dict())
        off = (mixer(tokens(), shared) - wanted).norm(dim=-1)
        tail = 1 - seen[0][:, 0].topk(keep).values.sum(-1)
        assert (off <= 2 * tail * largest + 1e-5).all()
        errors.append(off.mean().item())
    assert errors == sorted(errors, reverse=True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(total=st.integers(1, 90), length=st.integers(4, 20))
def test_pieces_cover_a_source_once(total, length):
    found = pieces(total, length)
    begin = 0
    for start, stop, end in found:
        assert start <= begin < end <= stop <= total
        assert stop - start == min(length, total)
        begin = end
    assert begin == total
    for (start, _, _), (_, _, before) in zip(found[1:], found, strict=False):
        assert before - start >= length // 4


def test_short_sources_change_nothing():
    plain = base()
    long = ef.models.unlimiformer(plain, length=13)
    inputs, target, mask = ids(17, 3, 13), ids(17, 3, 6, seed=4), ragged(3, 13)
    close(long(inputs, target, mask=mask), plain(inputs, target, mask=mask))
    packed = torch.cat([row[real] for row, real in zip(inputs, mask, strict=True)])[None]
    close(long(packed, target, lengths=mask.sum(1)), plain(inputs, target, mask=mask))
    options = {"bos": 1, "eos": 2, "pad": 0, "max_tokens": 8}
    assert generate(long, inputs, mask=mask, **options) == generate(plain, inputs, mask=mask, **options)


def test_a_long_source_is_its_pieces():
    plain = base()
    long = ef.models.unlimiformer(plain, length=8, keep=100)
    inputs, target = ids(17, 2, 21), ids(17, 2, 6, seed=4)
    found = long.prepare(inputs).memory["encoder"].values

    def states(start):
        return plain.prepare(inputs[:, start : start + 8]).memory["encoder"].values

    wanted = torch.cat(
        (states(0)[:, :6], states(4)[:, 2:6], states(8)[:, 2:6], states(12)[:, 2:6], states(13)[:, 5:]), 1
    )
    close(found, wanted)
    memory = Context(memory={"encoder": ef.Tokens(wanted)})
    close(long(inputs, target), plain.decode(target, memory))


class Largest(TorchDispatchMode):
    """The elements of the largest tensor that is made inside."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = [each for each in pytree.tree_leaves(made) if isinstance(each, torch.Tensor)]
        self.count = max([self.count, *(each.numel() for each in tensors)])
        return made


def test_memory_grows_linearly_with_the_source():
    """Sources of 16 and of 64 times the length: the largest tensor is four times as large, and no scores of all remain."""
    long, target = ef.models.unlimiformer(base(), length=8), ids(17, 1, 3, seed=4)
    found = []
    for times in (16, 64):
        with torch.no_grad(), Largest() as largest:
            long(ids(17, 1, 8 * times), target)
        found.append(largest.count)
    assert found[1] <= 4.1 * found[0]


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ef.DoesNotFit, match="length is at least 4"):
        ef.models.unlimiformer(base(), length=3)
    with pytest.raises(ef.DoesNotFit, match="keep is at least 1"):
        make("mixers.RetrievedAttention", keep=0)
    with pytest.raises(ef.BadInput, match="reads the memory 'encoder'"):
        make("mixers.RetrievedAttention")(tokens())


def long_memory(count=1500, lost=100):
    values = torch.randn(2, count, 32, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(count)[None] < torch.tensor([count, count - lost])[:, None]
    mass = torch.rand(2, count, generator=torch.Generator().manual_seed(5)) + 0.5
    return ef.Tokens(values.requires_grad_(), mask=mask, weights=mass)


def test_an_index_that_looks_at_all_finds_what_exact_search_finds():
    memory, asked = (
        long_memory(),
        torch.randn(2, 4, 3, 32, generator=torch.Generator().manual_seed(6), requires_grad=True),
    )
    plain = memory.replace(weights=None)
    scores, where = ef.mixers.FaissSearch("Flat")(asked, plain, 8)
    wanted, places = ef.mixers.ExactSearch(400)(asked, plain, 8)
    assert torch.equal(where, places)
    close(scores, wanted, 1e-5)
    ours, theirs = (torch.autograd.grad(each.sum(), (asked, memory.values)) for each in (scores, wanted))
    for one, other in zip(ours, theirs, strict=True):
        close(one, other)
    heavy, where = ef.mixers.FaissSearch("Flat")(asked, memory, 8)
    mass = memory.weights[torch.arange(2)[:, None, None, None], where]
    close(heavy, scores + mass.log(), 1e-5)


@pytest.mark.parametrize("index", ["HNSW32", "IVF16,Flat"])
def test_an_index_that_looks_at_few_finds_most_of_them(index):
    memory = long_memory().replace(weights=None)
    asked = memory.values.detach()[:, None, :200:4] + 0.1
    search = ef.mixers.FaissSearch(index)
    _, where = search(asked, memory, 1)
    _, places = ef.mixers.ExactSearch()(asked, memory, 1)
    assert (where == places).float().mean() > 0.7
    held = search.indices(memory)
    assert search.indices(memory) is held
    assert search.indices(long_memory()) is not held


def test_a_model_searches_in_an_index_for_all_its_heads():
    model = base()
    inputs, target = ids(17, 2, 40), ids(17, 2, 5, seed=1)
    exact = ef.models.unlimiformer(model, length=16, keep=6)
    indexed = ef.models.unlimiformer(model, length=16, keep=6, search=ef.mixers.FaissSearch("Flat"))
    with torch.no_grad():
        close(indexed(inputs, target), exact(inputs, target), 1e-4)
        close(copy.deepcopy(indexed)(inputs, target), exact(inputs, target), 1e-4)


def test_fewer_tokens_than_are_kept():
    memory = ef.Tokens(torch.randn(2, 5, 32), mask=torch.arange(5) < torch.tensor([5, 2])[:, None])
    scores, where = ef.mixers.FaissSearch("Flat")(torch.randn(2, 1, 3, 32), memory, 8)
    assert scores.shape == where.shape == (2, 1, 3, 5)
    assert (scores[1, ..., 2:] == torch.finfo(torch.float32).min).all()
    assert (scores[1, ..., :2] > -100).all()


def test_without_faiss_or_with_an_index_that_it_does_not_know(monkeypatch):
    with pytest.raises(ef.EveryformerError, match="FAISS knows no index 'HNWS'"):
        ef.mixers.FaissSearch("HNWS")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ef.EveryformerError, match=r"everyformer\[retrieval\]"):
        ef.mixers.FaissSearch()
