"""`matformer`: slices that are models by themselves, against the authors' slicing of Llama and what the method promises."""

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import flops, on_meta, parameters
from everyformer.generation import Greedy, generate
from everyformer.generation.speculative import Speculative
from everyformer.interop import from_transformers
from everyformer.interop.weights import tensors
from support.parity import ids, perturb
from support.parts import close, tokens

SMALL = {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 3, "heads": 4}
HIDDEN = "backbone.body.blocks.*.feedforward.hidden"


def build(**changes):
    return perturb(ef.create("matformer", seed=0, **{**SMALL, **changes}))


def cut(model, units, where=HIDDEN):
    return ef.resize(copy.deepcopy(model), where, units)


@pytest.mark.parametrize("share", [0.125, 0.25, 0.5])
def test_a_slice_is_the_model_cut_for_good(share):
    model, inputs = build(), ids(20, 2, 9)
    small = cut(model, round(48 * share))
    close(small(inputs), model(inputs, context=Context(share=share)), 1e-6)
    assert parameters(model) - parameters(small) == 3 * 3 * 32 * (48 - round(48 * share))


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_equals_the_authors_slicing_of_hugging_faces_llama(share):
    """modified_llama.py: gate_proj[:m], up_proj[:m], down_proj[:, :m]."""
    theirs = perturb(
        LlamaForCausalLM(
            LlamaConfig(vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
        )
    )
    ours, inputs, units = build(), ids(20, 2, 9), round(48 * share)
    named = {n.replace("backbone.", "backbone.body."): v for n, v in tensors(from_transformers(theirs)).items()}
    ours.load_state_dict(named)
    for block in theirs.model.layers:
        mlp = block.mlp
        block.mlp.forward = lambda x, mlp=mlp: F.linear(
            F.silu(F.linear(x, mlp.gate_proj.weight[:units])) * F.linear(x, mlp.up_proj.weight[:units]),
            mlp.down_proj.weight[:, :units],
        )
    answer, expected = ours(inputs, context=Context(share=share)), theirs(inputs).logits
    close(answer, expected)
    answer.square().sum().backward()
    expected.square().sum().backward()
    found, wanted = ours.backbone.body.blocks[0].feedforward, theirs.model.layers[0].mlp
    close(found.up.weight.grad, torch.cat((wanted.gate_proj.weight.grad, wanted.up_proj.weight.grad)), 1e-4)
    close(found.down.weight.grad, wanted.down_proj.weight.grad, 1e-4)


@pytest.mark.parametrize("part", ["NestedMLP", "NestedGated"])
def test_units_beyond_the_slice_get_no_gradient(part):
    made = perturb(ef.spec(getattr(ef.feedforward, part), hidden=8).build(32))
    made(tokens(), Context(share=0.25)).square().sum().backward()
    assert (made.down.weight.grad.abs().sum(0) > 0).tolist() == [True] * 2 + [False] * 6
    assert (made.up.weight.grad.abs().sum(1) > 0).view(-1, 8)[:, 2:].sum() == 0


def test_blocks_are_mixed_and_matched():
    model, inputs = build(), ids(20, 2, 9)
    mixed = cut(
        cut(model, 12, "backbone.body.blocks.0.feedforward.hidden"), 24, "backbone.body.blocks.2.feedforward.hidden"
    )
    sizes = [block.feedforward.down.in_features for block in mixed.backbone.body.blocks]
    assert sizes == [12, 48, 24]
    state = model.embedding(inputs)
    for block, size in zip(model.backbone.body.blocks, sizes, strict=True):
        state = block(state, Context(mask=ef.masks.Causal(), share=size / 48))
    close(mixed(inputs), model.head(state.update(model.backbone.body.norm(state.values))), 1e-6)


def test_a_training_pass_draws_one_share_for_all_blocks():
    model = build(rate=1.0).train()
    seen = []
    for block in model.backbone.body.blocks:
        block.feedforward.register_forward_pre_hook(lambda m, given: seen.append(given[1].share))
    torch.manual_seed(0)
    for _ in range(30):
        model(ids(20, 1, 4))
    drawn = [tuple(seen[i : i + 3]) for i in range(0, 90, 3)]
    assert {len(set(each)) for each in drawn} == {1}
    assert {each[0] for each in drawn} == {0.125, 0.25, 0.5}
    seen.clear()
    model.eval()(ids(20, 1, 4))
    assert seen == [1.0] * 3


def test_a_model_drafts_for_itself_and_says_what_it_says_alone():
    model = build()
    inputs = ids(20, 2, 5)
    alone = generate(model, inputs, strategy=Greedy(), max_tokens=8, eos=None, pad=0)
    drafted = generate(model, inputs, strategy=Speculative(draft=cut(model, 12)), max_tokens=8, eos=None, pad=0)
    assert drafted == alone


def test_a_small_slice_costs_less():
    whole, small = (on_meta(ef.design("matformer", **{**SMALL, "hidden": units})) for units in (48, 12))
    assert flops(whole)[""] - flops(small)[""] == 3 * 16 * 2 * 3 * 32 * 36


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(ef.DoesNotFit, match="between 0 and 1"):
        ef.create("matformer", shares=(0.5, 1.5), **SMALL)
