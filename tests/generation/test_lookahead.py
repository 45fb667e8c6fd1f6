"""Lookahead and a model's own layers as its draft: greedy's tokens exactly, in fewer passes."""

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import Lookahead, Sample, generate, lookahead, self_speculative, some_layers
from everyformer.generation.lookahead import Pool
from support.agreement import perturb

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": None, "pad": 0, "max_tokens": 17}
MODELS = {
    "llama": lambda: ef.create("llama", vocabulary=40, width=32, hidden=48, depth=3, heads=2, seed=0),
    "rwkv": lambda: ef.create("rwkv", vocabulary=40, width=32, depth=2, seed=0),
    "transformer": lambda: ef.create("transformer", "tiny", vocabulary=40, width=32, hidden=64, depth=1, seed=0),
}


def model(name):
    return perturb(MODELS[name](), seed=3, std=0.5).double()


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_greedy(name):
    made, options = model(name), OPTIONS | ({"bos": 1} if name == "transformer" else {})
    wanted = generate(made, PROMPTS, **options)
    ended = {**options, "eos": wanted[1][6], "stop": [wanted[2][3:5]]}
    strategies = [Lookahead(window=8, size=4), Lookahead(window=3, size=6), Lookahead(window=30, size=2)]
    if name == "llama":
        strategies += [self_speculative(made, keep=1, ahead=3), self_speculative(made, keep=(0, 2))]
    for chosen in strategies:
        assert generate(made, PROMPTS, strategy=chosen, **options) == wanted
        assert generate(made, PROMPTS, strategy=chosen, **ended) == generate(made, PROMPTS, **ended)
    assert generate(made, PROMPTS, strategy=lookahead(), cache=False, **options) == wanted


def test_a_pool_holds_the_text_and_the_diagonals_of_the_passes():
    pool = Pool(3)
    pool.say([1, 2, 3, 4])
    assert pool.runs == {1: (2, 3), 2: (3, 4)}
    pool.collect([5, 6, 7])
    pool.say([5])
    assert pool.runs[3] == (4, 5)
    pool.collect([16, 17, 18])
    pool.say([16])
    pool.collect([27, 28, 29, 30])
    assert pool.runs[6] == (17, 28)
    assert pool.runs[5] == (16, 27)
    pool.said.append(2)
    assert pool.guess(4, 0) == [3, 4, 30, 0]


def test_text_that_repeats_itself_takes_few_passes():
    """A model that says 0, 1, ..., 7, 0, 1, ..., whatever stood before."""
    made = ef.create("llama", vocabulary=8, width=8, hidden=8, depth=1, heads=2, seed=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.embedding.table.weight.copy_(torch.eye(8))
        made.head.project.weight.copy_(torch.eye(8).roll(1, 0))
        made.backbone.norm.weight.fill_(1)
    fed = []
    made.backbone.register_forward_pre_hook(lambda _, given: fed.append(given[0].count))
    said = generate(made, [[7]], strategy=Lookahead(window=5, size=6), eos=None, pad=0, max_tokens=64)[0]
    assert said == [i % 8 for i in range(64)]
    assert len(fed) < 64 / 2.5


def test_a_draft_of_some_layers_shares_the_weights_and_leaves_the_model_as_it_is():
    made = model("llama").train()
    draft = some_layers(made, (0, 2))
    assert {id(each) for each in draft.parameters()} < {id(each) for each in made.parameters()}
    assert draft.backbone.blocks[1].mixer.qkv.weight is made.backbone.blocks[2].mixer.qkv.weight
    assert len(made.backbone.blocks) == 3
    strategy = self_speculative(made, keep=1, choice=ef.spec(Sample))
    assert all(module.training for module in made.modules())
    generate(made, PROMPTS, strategy=strategy, **OPTIONS)
    whole = some_layers(made.eval(), 3).eval()
    assert torch.equal(whole(torch.tensor([[1, 2, 3]])), made(torch.tensor([[1, 2, 3]])))


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="size 1 at least 2"):
        Lookahead(size=1)
    for keep in (0, 4, (1, 0), (5,)):
        with pytest.raises(BadInput, match="of 3 blocks"):
            some_layers(model("llama"), keep)
    with pytest.raises(DoesNotFit, match="plain stack of blocks"):
        some_layers(model("transformer"), 1)
