"""Guided logits against equation 7 written out, and against Hugging Face's."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import TOVA, Beam, Contrastive, Greedy, Guided, Jacobi, Sample, generate, guidance
from everyformer.interop import from_transformers
from support.agreement import perturb

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [11, 12]]
OPTIONS = {"eos": 5, "pad": 0, "max_tokens": 9}


def model():
    return perturb(
        ef.create("llama", vocabulary=40, width=32, hidden=48, depth=2, heads=2, seed=0), seed=3, std=0.4
    ).double()


@torch.no_grad()
def literal(made, prompt, scale, without):
    said = []
    while len(said) < OPTIONS["max_tokens"]:
        far, near = (
            made(torch.tensor([[*ids, *said]]))[0, -1].log_softmax(0) for ids in (without or prompt[-1:], prompt)
        )
        token = int((far + scale * (near - far)).argmax())
        if token == OPTIONS["eos"]:
            break
        said.append(token)
    return said


@pytest.mark.parametrize("without", [None, (7, 3)])
@pytest.mark.parametrize("cache", [True, False])
def test_it_is_equation_7(without, cache):
    made, plain = model(), generate(model(), PROMPTS, **OPTIONS)
    wanted = [literal(made, each, 2.5, without) for each in PROMPTS]
    assert wanted != plain
    for inner in (Greedy, Jacobi):
        chosen = Guided(scale=2.5, without=without, strategy=ef.spec(inner))
        assert generate(made, PROMPTS, strategy=chosen, cache=cache, **OPTIONS) == wanted
    assert generate(made, PROMPTS, strategy=guidance(scale=1.0), cache=cache, **OPTIONS) == plain


def test_it_is_that_of_transformers():
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.4}
    theirs = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=1, eos_token_id=None)).eval()
    ids = torch.tensor([[4, 5, 6, 7, 8]])
    said = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, guidance_scale=1.7, pad_token_id=0
    )
    ours = from_transformers(theirs)
    assert generate(ours, ids, eos=None, pad=0, max_tokens=12, strategy=Guided(scale=1.7)) == said[:, 5:].tolist()


@pytest.mark.parametrize("inner", [Beam(size=3), Contrastive(), Sample()], ids=lambda each: type(each).__name__)
def test_any_strategy_is_guided_row_by_row(inner):
    made, chosen = model(), Guided(scale=2.0, strategy=inner.spec or ef.spec(type(inner)))

    def said(prompts):
        torch.manual_seed(0)
        return generate(made, prompts, strategy=chosen, **OPTIONS)

    if isinstance(inner, Sample):
        assert said(PROMPTS) == said(PROMPTS)
    else:
        assert said(PROMPTS) == [said([each])[0] for each in PROMPTS]


def test_policies_hold_beside_it_and_what_makes_no_sense_is_refused():
    made = model()
    full = generate(made, PROMPTS, strategy=Guided(), **OPTIONS)
    assert generate(made, PROMPTS, strategy=Guided(), policy=TOVA(keep=1.0), **OPTIONS) == full
    with pytest.raises(DoesNotFit, match="cannot take tokens back"):
        generate(made, PROMPTS, strategy=Guided(strategy=ef.spec(Jacobi)), policy=TOVA(), **OPTIONS)
    with pytest.raises(BadInput, match="scale is 0"):
        Guided(scale=0)
    with pytest.raises(BadInput, match="without is empty"):
        Guided(without=())
    other = ef.create("transformer", "tiny", vocabulary=40, width=32, hidden=64, depth=1, seed=0)
    with pytest.raises(DoesNotFit, match="without its source"):
        generate(other, PROMPTS, bos=1, strategy=Guided(), **OPTIONS)
