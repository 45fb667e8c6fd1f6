"""`vikanformer`: a ViT whose MLPs are Kolmogorov-Arnold layers and nothing else."""

import pytest
import torch

import everyformer as ef
from everyformer.published.vikanformer import KINDS
from support.systems import model_of


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_vit_but_for_its_feedforwards(kind):
    same = {"image": 16, "patch": 4, "channels": 1, "width": 16, "depth": 2, "heads": 2, "classes": 3}
    made = ef.design("vikanformer", kind=kind, **same)
    lines = made.diff(ef.design("vit", **same)).splitlines()
    assert {line.split(":")[0][2:] for line in lines} == {"backbone.blocks.{0..1}.feedforward"}
    assert model_of(made)(torch.randn(2, 1, 16, 16)).shape == (2, 3)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ef.UnknownName, match="unknown kind of edge 'splines'; did you mean 'spline'"):
        ef.design("vikanformer", kind="splines")
