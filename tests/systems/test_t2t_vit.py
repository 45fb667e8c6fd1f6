"""`t2t-vit` against a run of the authors' code."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop.vit import TIMM_BLOCKS
from everyformer.interop.weights import Pair, layer
from support.agreement import recorded


def test_equals_a_run_of_the_official_code():
    """`first` is their class token and its place in one."""
    pairs = [Pair("embedding.first", ("first",))] + layer("embedding.project", "tokens_to_token.project")
    for i in (0, 1):
        ours, theirs = f"embedding.steps.{i}", f"tokens_to_token.attention{i + 1}"
        pairs += layer(f"{ours}.norms.0", f"{theirs}.norm1") + layer(f"{ours}.norms.1", f"{theirs}.norm2")
        pairs += layer(f"{ours}.qkv", f"{theirs}.attn.qkv", bias=False) + layer(f"{ours}.output", f"{theirs}.attn.proj")
        pairs += layer(f"{ours}.up", f"{theirs}.mlp.fc1") + layer(f"{ours}.down", f"{theirs}.mlp.fc2")
    pairs += [pair for pair in TIMM_BLOCKS if not pair.ours.endswith("qkv.bias")]
    pairs += layer("backbone.norm", "norm") + layer("head.classify", "head")
    model = ef.create("t2t-vit", classes=5, image=32, channels=1, narrow=6, width=16, depth=1, heads=2)
    recorded("t2t_vit", model, pairs)


@pytest.mark.parametrize(("size", "published"), [("14", 21.5e6), ("19", 39.2e6), ("24", 64.1e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 2 and the official list of models."""
    assert parameters(on_meta(ef.design("t2t-vit", size))) == pytest.approx(published, rel=0.01)


def test_without_overlap_and_attention_it_cuts_patches():
    cut = ef.spec(ef.embeddings.TokensToToken, splits=((4, 4, 0),), channels=2, image=12).build(10)
    patches = ef.spec(ef.embeddings.Patches, patch=4, channels=2, image=12).build(10)
    with torch.no_grad():
        cut.project.weight.copy_(patches.project.weight.flatten(1))
        cut.project.bias.copy_(patches.project.bias)
    pictures = torch.randn(2, 2, 12, 8)
    tokens = cut(pictures)
    assert tokens.grid == (3, 2)
    torch.testing.assert_close(tokens.values, patches(pictures).values)


@pytest.mark.parametrize("size", [(32, 32), (70, 64), (224, 160)])
def test_other_sizes_of_pictures(size):
    model = ef.create("t2t-vit", classes=5, image=64, narrow=8, width=32, depth=1, heads=2).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)
