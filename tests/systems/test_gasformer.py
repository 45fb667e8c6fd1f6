"""Gasformer's head against the authors' code, and its factorisation against scikit-learn's."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import non_negative_factorization

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.mixers.factors import factors
from support.agreement import FIXTURES, close
from support.heads import answered

NAMES = {
    "squeeze.0": "squeeze.conv", "squeeze.1": "squeeze.norm", "mixer.up": "hamburger.ham_in.conv",
    "mixer.output": "hamburger.ham_out.conv", "norm": "hamburger.ham_out.norm", "align.0": "align.conv",
    "align.1": "align.norm", "classify": "conv_seg",
}  # fmt: skip
"""Theirs of ours."""


def test_the_head_equals_the_authors():
    kept = load_file(FIXTURES / "gasformer.safetensors")
    mixer = ef.spec(ef.mixers.Hamburger, rank=3)
    head = ef.spec(ef.heads.MixedLevels, classes=3, mixer=mixer, hidden=8, groups=2).build((4, 6, 8)).eval()
    theirs = {}
    for name, each in head.named_parameters():
        module, _, kind = name.rpartition(".")
        theirs[name] = f"{NAMES[module]}.{kind}"
        each.data.copy_(kept[f"weight.{theirs[name]}"].view_as(each))
    head.mixer.start.copy_(kept["start"])
    answer = answered(head, [kept[f"map.{i}"].float() for i in range(3)])
    close(answer, kept["output"])
    (answer * kept["cotangent"]).sum().backward()
    for name, each in head.named_parameters():
        close(each.grad, kept[f"gradient.{theirs[name]}"].view_as(each), name)


def test_the_steps_are_those_of_scikit_learn_and_never_lead_away():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1, 20, 6, generator=generator, dtype=torch.float64)
    vectors = torch.rand(1, 6, 3, generator=generator, dtype=torch.float64)
    begin = (values @ vectors).softmax(-1)
    off = []
    for steps in range(6):
        ours, base = factors(values, vectors, steps)
        off.append((values - ours @ base.mT).norm().item())
        if steps:
            theirs, components, _ = non_negative_factorization(
                values[0].numpy(), W=begin[0].numpy().copy(), H=vectors[0].mT.numpy().copy(), n_components=3,
                init="custom", solver="mu", max_iter=steps, tol=0,
            )  # fmt: skip
            assert np.allclose(base[0].mT.numpy(), components, atol=1e-5)
            then, *_ = non_negative_factorization(
                values[0].numpy(), W=theirs, H=components, n_components=3, init="custom", solver="mu", max_iter=1, tol=0
            )
            assert np.allclose(ours[0].numpy(), then, atol=1e-5)
    assert all(later < earlier for earlier, later in pairwise(off))


def test_what_is_of_low_rank_comes_out_cleaner():
    """Of a product of rank 1 under noise it keeps the product."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(1, 64, 1, generator=generator) @ torch.rand(1, 1, 16, generator=generator)
    noisy = (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(min=0)
    ours, base = factors(noisy, torch.rand(1, 16, 1, generator=generator), 7)
    assert (ours @ base.mT - clean).norm() < 0.5 * (noisy - clean).norm()


def test_a_factorisation_has_a_rank():
    with pytest.raises(ef.DoesNotFit, match="rank of 1 or more; given rank=0"):
        ef.spec(ef.mixers.Hamburger, rank=0).build(8)


def test_its_size_is_the_published_one():
    assert parameters(on_meta(ef.design("gasformer"))) == pytest.approx(3.65e6, rel=0.01)
