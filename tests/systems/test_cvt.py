"""`cvt` against Hugging Face's, and as the ViT that it is when its convolutions do nothing."""

import pytest
import torch
from transformers import CvtConfig, CvtForImageClassification

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back

LAST = "stages.2.blocks.2.mixer.convs.0"
NOTHING = ("convs.1.norm.bias", "maps.1.bias", f"{LAST}.conv.weight", f"{LAST}.norm.weight", f"{LAST}.norm.bias")
"""What is added to all keys moves no softmax; and of the last block only the class token is read."""


@pytest.mark.parametrize("size", [(64, 64), (70, 52)])
def test_equals_hugging_face(size):
    sizes = {"embed_dim": [8, 16, 24], "depth": [1, 2, 3], "num_heads": [1, 2, 3], "num_labels": 5}
    theirs = perturb(CvtForImageClassification(CvtConfig(**sizes)), std=0.2)
    for name, buffer in theirs.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer))
    goes_back(agree(theirs, torch.randn(2, 3, *size), NOTHING), theirs)


@pytest.mark.parametrize(("size", "published"), [("13", 20.0e6), ("21", 31.6e6), ("w24", 277.2e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 3; 32 M for CvT-21 there, 31.54 M in the authors' list of models."""
    assert parameters(on_meta(ef.design("cvt", size))) == pytest.approx(published, rel=0.005)


def test_convolutions_that_do_nothing_leave_attention():
    conv = ef.spec(ef.mixers.ConvAttention, heads=2, stride=1).build(16).eval()
    plain = ef.spec(ef.mixers.Attention, heads=2, scale=16**-0.5).build(16)
    for each in conv.convs:
        torch.nn.init.dirac_(each.conv.weight, groups=16)
        each.norm.eps = 0.0
    with torch.no_grad():
        plain.qkv.weight.copy_(torch.cat([linear.weight for linear in conv.maps]))
        plain.qkv.bias.copy_(torch.cat([linear.bias for linear in conv.maps]))
    plain.output.load_state_dict(conv.output.state_dict())
    tokens = ef.Tokens(torch.randn(2, 21, 16), grid=(4, 5), prefix=1)
    close(conv(tokens), plain(tokens))


def test_keys_are_a_quarter_of_the_queries():
    mixer = ef.spec(ef.mixers.ConvAttention, heads=2).build(16)
    seen = []
    mixer.weights.register_forward_hook(lambda *call: seen.append(call[-1].shape))
    mixer(ef.Tokens(torch.randn(1, 49, 16), grid=(6, 8), prefix=1))
    assert seen == [(1, 2, 49, 13)]
