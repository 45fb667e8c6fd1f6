"""`brainformer`: blocks written as letters, experts that are full, and the search that finds them."""

import random

import pytest
import torch

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.feedforward import CappedTopK, TopK
from everyformer.published.brainformer import LETTERS, mutated
from everyformer.tokens import Tokens, pack
from everyformer.training.evolution import evolve
from support.parity import ids, perturb
from support.parts import close, tokens

SMALL = {"vocabulary": 20, "length": 16, "width": 32, "hidden": 48, "repeats": 2, "heads": 4, "experts": 3}


def test_attention_and_feedforward_in_turn_are_gpt():
    model = perturb(ef.create("brainformer", pattern="af", seed=0, **SMALL))
    plain = ef.create("gpt", vocabulary=20, length=16, width=32, hidden=48, depth=2, heads=4).eval()
    state = model.state_dict()
    for i in range(2):
        for name in [*state]:
            attend, feed = f"backbone.blocks.{2 * i}.", f"backbone.blocks.{2 * i + 1}."
            for old, new in ((attend + "mixer", "mixer"), (attend + "residual.0", "residual.0"),
                             (feed + "feedforward", "feedforward"), (feed + "residual.0", "residual.1")):  # fmt: skip
                if name.startswith(old):
                    state[f"gpt.{i}.{new}{name.removeprefix(old)}"] = state.pop(name)
    plain.load_state_dict({name.replace("gpt.", "backbone.blocks."): value for name, value in state.items()})
    close(model(ids(20, 2, 7)), plain(ids(20, 2, 7)))


def test_one_expert_with_room_is_a_feedforward():
    options = {**SMALL, "experts": 1, "chosen": 1, "expert_hidden": 48}
    sparse, dense = (perturb(ef.create("brainformer", pattern=pattern, seed=0, **options)) for pattern in ("ag", "af"))
    state = {name.replace("feedforward.expert.0", "feedforward"): value for name, value in sparse.state_dict().items()}
    dense.load_state_dict({name: state[name] for name in dense.state_dict()})
    close(sparse(ids(20, 2, 7)), dense(ids(20, 2, 7)))


def router(kind=CappedTopK, **options):
    torch.manual_seed(0)
    return perturb(kind(32, 4, **{"k": 2, **options}))


def test_what_comes_too_late_passes_by():
    capped, free = router(capacity=1.0, length=4), router(TopK)
    assert capped.most == 2
    given, open_ = capped(tokens()), free(tokens())
    dropped = 0
    for b in range(3):
        taken = [0] * 4
        for n in range(6):
            for e in range(4):
                if open_[b, n, e] > 0 and taken[e] < 2:
                    taken[e] += 1
                    close(given[b, n, e], open_[b, n, e])
                else:
                    dropped += bool(open_[b, n, e] > 0)
                    assert given[b, n, e] == 0
    assert dropped > 0
    assert torch.equal(router(capacity=9.0)(tokens()), open_)


def test_a_sequence_fills_its_experts_by_itself_and_from_its_beginning():
    capped, whole = router(capacity=1.0, length=4), tokens()
    whole.mask = torch.arange(6) < torch.tensor([6, 4, 2])[:, None]
    padded = capped(whole)
    for b, count in enumerate((6, 4, 2)):
        close(padded[b, :count], capped(Tokens(whole.values[b : b + 1, :count]))[0])
    close(capped(pack(whole))[0], padded[whole.mask])
    context, found = Context(cache=Cache()), []
    for n in range(6):
        piece = Tokens(tokens().values[:, n : n + 1])
        found.append(capped(piece, context))
        context.cache.advance(piece)
    close(torch.cat(found, 1), capped(tokens()))


def test_mutants_are_patterns():
    chance, pattern, kinds = random.Random(0), "a", set()
    for _ in range(200):
        child = mutated(pattern, chance)
        assert child
        assert set(child) <= set(LETTERS)
        kinds.add(len(child) - len(pattern))
        pattern = child[:8]
    assert kinds == {-1, 0, 1}


def test_evolution_finds_a_planted_pattern_and_chance_does_not():
    wanted = "agfgfa"

    def fitness(pattern):
        return sum(a == b for a, b in zip(pattern, wanted, strict=False)) - abs(len(pattern) - len(wanted))

    best, drawn = [], []
    for seed in range(5):
        best.append(max(each.fitness for each in evolve("af", mutated, fitness, trials=200, seed=seed)))
        chance = random.Random(seed)
        drawn.append(max(fitness("".join(chance.choices(LETTERS, k=chance.randrange(1, 9)))) for _ in range(200)))
    assert sum(best) > sum(drawn)
    assert max(best) == len(wanted)


def test_the_oldest_dies_however_good():
    tried = evolve(100, lambda x, chance: x - 1, float, trials=8, population=2, tournament=2)
    assert [each.candidate for each in tried] == [100, 99, 99, 98, 98, 97, 97, 96]


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda: ef.design("brainformer", pattern="abc"), "letters a, f, g; given 'abc'"),
     (lambda: router(capacity=0.0), "capacity is above 0"),
     (lambda: evolve("a", mutated, len, trials=4, population=8), "population=8, trials=4")],
    ids=["letters", "capacity", "population"],
)  # fmt: skip
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises((ef.EveryformerError, ValueError), match=message):
        call()
