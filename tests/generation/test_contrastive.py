"""Contrastive search against equation 5, every state computed anew for each candidate."""

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput
from everyformer.generation import TOVA, Contrastive, Greedy, generate
from support.agreement import perturb

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": 5, "pad": 0, "max_tokens": 10}


def model(name="llama"):
    shape = {"vocabulary": 40, "width": 32, "hidden": 48, "depth": 1, "seed": 0}
    made = ef.create("transformer", "tiny", **shape) if name == "transformer" else ef.create("llama", heads=2, **shape)
    return perturb(made, seed=3, std=0.4).double()


@torch.no_grad()
def literal(made, prompt, top_k, alpha):
    said = []
    while len(said) < OPTIONS["max_tokens"]:
        before = prompt + said
        states = made.features(torch.tensor([before])).values[0]
        probable = made.head.project(states[-1]).softmax(0)
        scores = {}
        for token in probable.argsort(descending=True)[:top_k].tolist():
            state = made.features(torch.tensor([[*before, token]])).values[0, -1]
            cosines = [torch.cosine_similarity(state, each, dim=0) for each in states]
            scores[token] = float((1 - alpha) * probable[token] - alpha * max(cosines))
        token = max(scores, key=scores.get)
        if token == OPTIONS["eos"]:
            break
        said.append(token)
    return said


@pytest.mark.parametrize(("top_k", "alpha"), [(4, 0.6), (7, 0.9), (3, 0.2)])
def test_it_is_equation_5(top_k, alpha):
    made, strategy = model(), Contrastive(top_k=top_k, penalty=alpha)
    wanted = [literal(made, prompt, top_k, alpha) for prompt in PROMPTS]
    assert generate(made, PROMPTS, strategy=strategy, **OPTIONS) == wanted
    assert wanted != generate(made, PROMPTS, **OPTIONS)


@pytest.mark.parametrize("name", ["llama", "transformer"])
def test_without_penalty_or_choice_it_is_greedy(name):
    made, options = model(name), OPTIONS | ({"bos": 1} if name == "transformer" else {})
    wanted = generate(made, PROMPTS, strategy=Greedy(), **options)
    for strategy in (Contrastive(penalty=0.0), Contrastive(top_k=1)):
        assert generate(made, PROMPTS, strategy=strategy, **options) == wanted
    apart = [generate(made, [each], strategy=Contrastive(), **options)[0] for each in PROMPTS]
    assert generate(made, PROMPTS, strategy=Contrastive(), **options) == apart
    assert generate(made, PROMPTS, strategy=Contrastive(), cache=False, **options) == apart


def test_it_takes_policies_and_refuses_what_makes_no_sense():
    made, policy = model(), TOVA(keep=3)
    apart = [generate(made, [each], strategy=Contrastive(), policy=policy, **OPTIONS)[0] for each in PROMPTS]
    assert generate(made, PROMPTS, strategy=Contrastive(), policy=policy, **OPTIONS) == apart
    with pytest.raises(BadInput, match="penalty 1.5 between 0 and 1"):
        Contrastive(penalty=1.5)
