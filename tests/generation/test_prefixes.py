"""Prompts after a beginning read once: the tokens that they have with it written before each."""

import pytest

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import (
    H2O,
    KIVI,
    Beam,
    Contrastive,
    Greedy,
    Guided,
    Jacobi,
    Sample,
    Speculative,
    generate,
    read,
)
from support.agreement import perturb

PREFIX = [3, 1, 4, 1, 5, 9, 2, 6]
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": 5, "pad": 0, "max_tokens": 9}
SHAPES = {
    "gpt": {"length": 32, "width": 32, "depth": 2, "heads": 2},
    "llama": {"width": 32, "hidden": 48, "depth": 2, "heads": 2},
    "rwkv": {"width": 32, "depth": 2},
}


def model(name="llama", seed=3):
    return perturb(ef.create(name, vocabulary=40, **SHAPES[name], seed=0), seed=seed, std=0.4).double()


@pytest.mark.parametrize("name", SHAPES)
def test_tokens_are_those_without(name):
    made, whole = model(name), [PREFIX + each for each in PROMPTS]
    prefix = read(made, PREFIX)
    repeating = Sample(top_k=1, repetition_penalty=3.0)
    for chosen in (Greedy(), Beam(size=3), repeating, Jacobi(), Speculative(draft=model("gpt", 4)), Guided(scale=2.0)):
        wanted = generate(made, whole, strategy=chosen, **OPTIONS)
        assert generate(made, PROMPTS, strategy=chosen, prefix=prefix, **OPTIONS) == wanted
        assert generate(made, PROMPTS[2:], strategy=chosen, prefix=prefix, **OPTIONS) == wanted[2:], "used twice"


def test_it_is_not_read_again():
    made, fed = model(), []
    prefix = read(made, PREFIX)
    made.backbone.register_forward_pre_hook(lambda _, given: fed.append(given[0].count))
    generate(made, PROMPTS, prefix=prefix, eos=None, pad=0, max_tokens=3)
    assert fed == [5, 1, 1]
    assert prefix.cache.count == len(PREFIX)


def test_its_policy_and_storage_go_on():
    made = model()
    full = generate(made, PROMPTS, prefix=read(made, PREFIX), **OPTIONS)
    assert generate(made, PROMPTS, prefix=read(made, PREFIX, policy=H2O(keep=1.0)), **OPTIONS) == full
    exact = read(made, PREFIX, storage=KIVI(bits=8, group=16, residual=32))
    assert generate(made, PROMPTS, prefix=exact, **OPTIONS) == full
    small = read(made, PREFIX, policy=H2O(keep=4))
    for _ in range(2):
        apart = [generate(made, [each], prefix=small, **OPTIONS)[0] for each in PROMPTS]
        assert generate(made, PROMPTS, prefix=small, **OPTIONS) == apart


def test_what_cannot_be_is_refused():
    made = model()
    prefix = read(made, PREFIX)
    with pytest.raises(BadInput, match="a prefix of no tokens"):
        read(made, [])
    for given in ({"cache": False}, {"policy": H2O()}, {"storage": KIVI()}):
        with pytest.raises(BadInput, match="the policy it was read with"):
            generate(made, PROMPTS, prefix=prefix, **given, **OPTIONS)
    with pytest.raises(DoesNotFit, match="read by another model"):
        generate(model(), PROMPTS, prefix=prefix, **OPTIONS)
    with pytest.raises(DoesNotFit, match="contrastive search"):
        generate(made, PROMPTS, prefix=prefix, strategy=Contrastive(), **OPTIONS)
