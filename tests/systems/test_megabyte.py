"""`megabyte`: the paper's equations byte by byte, its limits, and what it costs."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.generation import generate
from everyformer.masks import Causal
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import close, spec_of
from support.systems import tiny


def small(**more):
    return perturb(tiny("megabyte", **more).build(seed=0))


def by_hand(model, row):
    """Section 2.1 for one sequence: the logits of each byte after the first, by patches one after the other."""
    body = model.backbone.blocks[0]
    size, told = body.patch, body.told
    table, context = model.embedding.table.weight, ef.Context(mask=Causal())
    far = [table[byte, :told] + body.positions.table.weight[t] for t, byte in enumerate(row)]
    near = [table[byte, told:] for byte in row]
    said = []
    for k in range(len(row) // size + 1):
        patches = [body.first_patch, *(torch.cat(far[size * j : size * j + size]) for j in range(k))]
        out = body.outer(Tokens(torch.stack(patches)[None]), context).values[0, k].unflatten(0, (size, told))
        known = near[size * k : size * k + size - 1]
        inputs = [body.project.weight @ out[p] + each for p, each in enumerate([body.first, *known])]
        said.append(body.inner(Tokens(torch.stack(inputs)[None]), ef.Context(mask=Causal())).values[0])
    return model.head.project(torch.cat(said)[1 : len(row) + 1])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_outputs_and_gradients_are_those_of_the_equations(count):
    model, inputs = small(), ids(20, 2, count)
    found = model(inputs)
    expected = torch.stack([by_hand(model, row) for row in inputs])
    close(found, expected)
    weights = [p for p in model.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(each.square().sum(), weights, allow_unused=True) for each in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        if a is not None and b is not None:
            close(a, b, 1e-4 * (1 + float(b.abs().max())))


def test_a_patch_of_one_is_a_decoder_behind_which_each_byte_stands_alone():
    model, inputs = small(patch=1), ids(20, 1, 6)
    body = model.backbone.blocks[0]
    far = model.embedding.table(inputs)[..., : body.told] + body.positions.table.weight[:6]
    first = body.first_patch.expand(1, 1, -1)
    said = body.outer(Tokens(torch.cat((first, far), 1)), ef.Context(mask=Causal())).values[:, 1:]
    alone = [body.inner(Tokens(body.project(each)[:, None] + body.first)).values for each in said.unbind(1)]
    close(model(inputs), model.head.project(torch.cat(alone, 1)))


def test_no_byte_reads_a_later_one_at_any_place_of_a_patch():
    model, inputs = small(), ids(20, 1, 8)
    before = model(inputs)
    for at in range(8):
        other = inputs.clone()
        other[0, at] = (other[0, at] + 7) % 20
        after = model(other)
        close(after[:, :at], before[:, :at], 1e-6)
        assert (after[:, at] - before[:, at]).abs().max() > 1e-5


def test_generation_goes_without_a_cache():
    model, prompt = small().eval(), ids(20, 1, 5)
    seen = prompt[0].tolist()
    for token in generate(model, prompt, eos=None, pad=0, max_tokens=5)[0]:
        assert token == model(torch.tensor([seen]))[0, -1].argmax()
        seen.append(token)


def test_only_attention_between_patches_grows_with_the_square():
    """Section 3.1: scores and sums over patches, 4 (T / P)^2 multiplications and additions for each channel."""

    def work(patches):
        model = on_meta(tiny("megabyte", length=200))
        return flops(model, {"inputs": torch.zeros(1, 3 * patches - 1, dtype=torch.long)})["backbone"]

    assert work(40) - 2 * work(20) == 4 * 48 * (40**2 - 2 * 20**2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="more than the 32 of the local"):
        spec_of("backbones.Multiscale", local_width=32).build(32)
