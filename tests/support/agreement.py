"""Our model and an independent one with the same weights: the same answers and the same gradients."""

from __future__ import annotations

from pathlib import Path

import torch

from everyformer.designs import design_of
from everyformer.interop import live
from everyformer.interop.forms import Leading
from everyformer.interop.timm import timm_family
from everyformer.interop.weights import fill, resolve, tensors

TOLERANCE = 1e-5
FIXTURES = Path(__file__).parents[1] / "fixtures"


def perturb(model, seed=0, std=0.05):
    """Move every parameter that is learnt away from where it starts, so that no scale is 1 and no shift or token is 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()


def close(found, wanted, what="answers"):
    """Equal to 1e-5, of the largest value where that is above 1."""
    off = (found - wanted).abs().max().item()
    assert off <= TOLERANCE * max(1.0, wanted.abs().max().item()), f"{what}: off by {off}"


def same_answers(answer, expected):
    """Compare answers that vary enough to tell models apart."""
    assert answer.shape == expected.shape
    assert expected.std() > 0.05
    close(answer, expected)


def same_gradients(ours, pairs, given, nothing=()):
    """Compare the gradients of our model with those `given` under their names; those of `nothing` are zero in both."""
    found = {name: tensor.grad for name, tensor in tensors(ours).items() if isinstance(tensor, torch.nn.Parameter)}
    spoken_of = resolve(ours, pairs)
    for name in found:
        spoken = spoken_of[name]
        pair = next(each for each in spoken if all(theirs in given for theirs in each.theirs))
        wanted = pair.read(given)
        if isinstance(pair.form, Leading):  # a token and its place among the positions have the same gradient
            wanted = wanted / 2
        assert (wanted.abs().max() > 1e-4) != (name in nothing), f"gradient of {name}: {wanted.abs().max()}"
        close(found[name], wanted, f"gradient of {name}")


def equal(ours, theirs, answer, expected, real=None, nothing=()):
    """Compare answers where tokens are real, then the gradients of a random sum of them, tensor by tensor.

    `theirs` is a live model of transformers or of timm; the gradients of `nothing` are zero in both.
    """
    if real is not None:
        answer, expected = answer[real], expected[real]
    same_answers(answer, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)) / expected[..., 0].numel() ** 0.5
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    given = {name: tensor.grad for name, tensor in tensors(theirs).items() if tensor.grad is not None}
    if hasattr(theirs, "config"):
        return same_gradients(ours, live.pairs(ours, theirs), live.as_saved(theirs, given), nothing)
    family = timm_family(theirs)
    return same_gradients(ours, family.family.pairs(design_of(ours), family.name), given, nothing)


def recorded(name, ours, pairs, nothing=(), fields=()):
    """Compare with a run of the authors' code: its weights, input, output and gradients stand in `fixtures`."""
    from safetensors.torch import load_file

    kept = load_file(FIXTURES / f"{name}.safetensors")
    fill(ours, pairs, {key[7:]: value.float() for key, value in kept.items() if key.startswith("weight.")})
    answer = ours.eval()(kept["input"], **{field: kept[field] for field in fields})
    same_answers(answer, kept["output"])
    (answer * kept["cotangent"]).sum().backward()
    same_gradients(ours, pairs, {key[9:]: value for key, value in kept.items() if key.startswith("gradient.")}, nothing)


def same_as_function(model, function, *inputs, **fields):
    """Compare a model with a function of its parameters and inputs: answers, and gradients of every parameter."""
    parameters = tensors(model)
    answer, expected = model(*inputs, **fields), function(parameters, *inputs, **fields)
    same_answers(answer, expected)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    learnt = {name: each for name, each in parameters.items() if isinstance(each, torch.nn.Parameter)}
    found = torch.autograd.grad((answer * weights).sum(), list(learnt.values()))
    wanted = torch.autograd.grad((expected * weights).sum(), list(learnt.values()))
    for name, one, other in zip(learnt, found, wanted, strict=True):
        close(one, other, f"gradient of {name}")
