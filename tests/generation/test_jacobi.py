"""Greedy decoding many tokens at once: its tokens exactly, the published algorithms' passes."""

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import H2O, Jacobi, Sinks, generate
from support.agreement import perturb

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": None, "pad": 0, "max_tokens": 17}
MODELS = {
    "gpt": lambda: ef.create("gpt", vocabulary=40, length=32, width=16, depth=1, heads=2, seed=0),
    "llama": lambda: ef.create("llama", vocabulary=40, width=32, hidden=48, depth=2, heads=2, seed=0),
    "rwkv": lambda: ef.create("rwkv", vocabulary=40, width=32, depth=1, seed=0),
    "transformer": lambda: ef.create("transformer", "tiny", vocabulary=40, width=32, hidden=64, depth=1, seed=0),
}


def model(name):
    return perturb(MODELS[name](), seed=3, std=0.5).double()


STRATEGIES = [{"block": None}, {"block": 1}, {"block": 4}, {"block": 30, "fill": 7}, {"block": 6, "limit": 8}]


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_greedy(name):
    made = model(name)
    options = OPTIONS | ({"bos": 1} if name == "transformer" else {})
    wanted = generate(made, PROMPTS, **options)
    assert len({tuple(each) for each in wanted}) > 2
    ended = {**options, "eos": wanted[1][6], "stop": [wanted[2][3:5]]}
    for strategy in STRATEGIES:
        chosen = Jacobi(**strategy)
        assert generate(made, PROMPTS, strategy=chosen, **options) == wanted, strategy
        assert generate(made, PROMPTS, strategy=chosen, **ended) == generate(made, PROMPTS, **ended), strategy
    assert generate(made, PROMPTS, strategy=Jacobi(), cache=False, **options) == wanted


class Passes:
    """The tokens fed in each pass."""

    def __init__(self, module):
        self.fed = []
        self.handle = module.register_forward_pre_hook(lambda _, given: self.fed.append(given[0].count))


def literal(greedy, count, block, limit, fill):
    """Algorithms 1 to 3 for one sequence: the tokens, and how many were fed in each pass after the first."""
    said, passes = greedy([]), []
    left = (block or count) - 1
    while len(said) < count:
        guesses = [fill] * min(left, count - len(said))
        while guesses:
            new = [greedy(said + guesses[:i])[0] for i in range(len(guesses))]
            passes.append(len(guesses))
            known = 1
            while known < len(new) and guesses[known - 1] == new[known - 1]:
                known += 1
            said, guesses = said + new[:known], new[known:]
        left = 1 if limit is not None and len(said) >= limit else block or count
    return said, passes


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_passes_are_those_of_the_algorithms(strategy):
    made, prompt = model("llama"), PROMPTS[1]

    @torch.no_grad()
    def greedy(said):
        return [int(made(torch.tensor([prompt + said]))[0, -1].argmax())]

    wanted, passes = literal(greedy, 17, strategy["block"], strategy.get("limit"), strategy.get("fill", 0))
    watch = Passes(made.backbone)
    assert generate(made, [prompt], strategy=Jacobi(**strategy), **OPTIONS) == [wanted]
    watch.handle.remove()
    assert watch.fed[0] == len(prompt)
    assert watch.fed[1:] == passes
    assert len(passes) == 16 if strategy["block"] == 1 else len(passes) <= 16


def test_easy_text_takes_few_passes():
    """A model that says the last token again."""
    made = ef.create("gpt", vocabulary=16, length=64, width=16, depth=1, heads=2, seed=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.embedding.table.weight.copy_(torch.eye(16))
        made.head.project.weight.copy_(torch.eye(16))
        made.backbone.norm.weight.fill_(1)
    watch = Passes(made.backbone)
    assert generate(made, [[3]], strategy=Jacobi(block=16, fill=3), eos=None, pad=0, max_tokens=33) == [[3] * 33]
    assert watch.fed == [1, 15, 16, 1]


def test_policies_that_cannot_take_back_are_refused():
    made = model("llama")
    with pytest.raises(BadInput, match="block 0 is at least 1"):
        Jacobi(block=0)
    with pytest.raises(DoesNotFit, match="cannot take tokens back"):
        generate(made, PROMPTS, strategy=Jacobi(), policy=H2O(), **OPTIONS)
    assert generate(made, PROMPTS, strategy=Jacobi(), policy=Sinks(sinks=2, window=30), **OPTIONS) == generate(
        made, PROMPTS, **OPTIONS
    )
