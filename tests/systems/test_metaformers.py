"""The baselines of MetaFormer against timm's class, and each for what its mixer is."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.pyramids import agree, goes_back, same_features


class RandomMixing(torch.nn.Module):
    """Equation 5 of Yu et al. (2024): a matrix across the cells that nothing trains."""

    cells = 196

    def __init__(self, dim, **kwargs):
        super().__init__()
        self.random_matrix = torch.nn.Parameter(torch.rand(self.cells, self.cells).softmax(-1), requires_grad=False)

    def forward(self, x):
        return torch.einsum("mn,bcn->bcm", self.random_matrix, x.flatten(2)).view_as(x)


def timm_metaformer(name):
    """Four stages of 16, 8, 4 and 2 cells a side."""
    of = pytest.importorskip("timm.models.metaformer", exc_type=ImportError)
    matrices = [type("RandomMixing", (RandomMixing,), {"cells": cells}) for cells in (16, 4)]
    mixers = {
        "identityformer": torch.nn.Identity,
        "randformer": [torch.nn.Identity, torch.nn.Identity, *matrices],
        "convformer": of.SepConv,
        "caformer": [of.SepConv, of.SepConv, of.Attention, of.Attention],
    }[name]
    whole = name in ("identityformer", "randformer")
    norms = [of.GroupNorm1NoBias] * 4 if whole else [of.LayerNorm2dNoBias] * 2 + [of.LayerNormNoBias] * 2
    if name == "convformer":
        norms = of.LayerNorm2dNoBias
    made = of.MetaFormer(
        depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), num_classes=5, token_mixers=mixers, norm_layers=norms,
        use_mlp_head=not whole, **({"head_dim": 8} if name == "caformer" else {}),
    )  # fmt: skip
    for parameter in made.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2 * parameter.requires_grad
    return made.eval()


@pytest.mark.parametrize("name", ["identityformer", "randformer", "convformer", "caformer"])
def test_equals_timm(name):
    theirs = timm_metaformer(name)
    pictures = torch.randn(2, 3, 64, 64)
    ours = agree(theirs, pictures)
    assert ours.system == name
    same_features(ours, theirs.forward_intermediates(pictures, intermediates_only=True), pictures)
    goes_back(ours, theirs)


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [("identityformer", "s12", 11.9e6), ("identityformer", "m48", 73.3e6), ("randformer", "s36", 30.8e6),
     ("randformer", "m36", 56.1e6), ("convformer", "s18", 26.8e6), ("convformer", "b36", 99.9e6),
     ("caformer", "s18", 26.3e6), ("caformer", "s36", 39.3e6), ("caformer", "m36", 56.2e6), ("caformer", "b36", 98.8e6)],
)  # fmt: skip
def test_sizes_are_the_published_ones(name, size, published):
    """Tables 1 and 2; the frozen matrices of RandFormer, which they count apart, are no parameters here."""
    assert parameters(on_meta(ef.design(name, size))) == pytest.approx(published, rel=0.005)


def test_a_matrix_that_mixes_nothing_is_the_identity():
    mixer = ef.spec(ef.mixers.RandomMixing, grid=(2, 3)).build(4)
    tokens = ef.Tokens(torch.randn(1, 6, 4), grid=(2, 3))
    assert not list(mixer.parameters())
    assert (mixer(tokens) - tokens.values).abs().max() > 0.1
    mixer.matrix.copy_(torch.eye(6))
    torch.testing.assert_close(mixer(tokens), tokens.values)
