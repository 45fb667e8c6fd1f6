"""`ecoformer` against its pairwise form, and hash functions that learn which tokens are alike."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.masks import Causal
from everyformer.mixers import HashFeatures, SharedLinearAttention, fit_codes
from support.parts import close, tokens


@pytest.mark.parametrize("causal", [False, True])
def test_linear_form_equals_the_pairwise_form(causal):
    """Equation 8: weights b + 1 + H(q) . H(k), all positive, row by row; the dot product is b - 2 Hamming."""
    torch.manual_seed(0)
    mixer = SharedLinearAttention(16, heads=2, features=ef.spec(HashFeatures, bits=5, anchors=4))
    whole = tokens(9, 2, width=16)
    key, value = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in mixer.qkv(whole.values).chunk(2, -1))
    code = mixer.features.code(key)
    assert set(code.unique().tolist()) == {-1.0, 1.0}
    apart = (code[:, :, :, None] != code[:, :, None]).sum(-1)
    weights = 5 + 1 + (5 - 2.0 * apart)
    assert weights.min() >= 1
    if causal:
        weights = weights.tril()
    wanted = weights / weights.sum(-1, keepdim=True) @ value
    context = Context(mask=Causal()) if causal else Context()
    close(mixer(whole, context), mixer.output(wanted.transpose(1, 2).flatten(2)))


def test_codes_are_signs_of_centred_kernels():
    """Section 4.1, an anchor at a time; the gradient passes within 1."""
    torch.manual_seed(0)
    features = HashFeatures(4, 2, bits=3, anchors=5)
    features.fit(torch.randn(2, 2, 20, 4), alike=3)
    x = torch.randn(1, 2, 6, 4, requires_grad=True)
    code, soft = features.code(x), torch.zeros(1, 2, 6, 3)
    for h in range(2):
        for i in range(6):
            unit = F.normalize(x[0, h, i], dim=0)
            near = torch.stack(
                [(-(unit - c).square().sum() / (2 * features.spread[h, 0, 0])).exp() for c in features.anchors[h]]
            )
            soft[0, h, i] = features.weights[h] @ (near - features.means[h, 0])
    assert torch.equal(code, soft.sign())
    (found,) = torch.autograd.grad(code.sum(), x, retain_graph=True)
    (wanted,) = torch.autograd.grad(soft.clamp(-1, 1).sum(), x)
    close(found, wanted)


def test_fitted_codes_know_better_who_is_alike():
    """Section 4.2: similarities of codes go with those of tokens more than random codes' and those of random hyperplanes."""
    torch.manual_seed(0)
    x = F.normalize(torch.randn(2, 1, 64, 8), dim=-1)
    features = HashFeatures(8, 1, bits=16, anchors=25)

    def alike(code):
        return torch.corrcoef(torch.stack(((code @ code.mT).flatten(), (x @ x.mT).flatten())))[0, 1].item()

    before = max(alike(features.code(x)), alike((x @ torch.randn(8, 16)).sign()))
    features.fit(x, generator=torch.Generator().manual_seed(0))
    assert alike(features.code(x)) > before + 0.05
    with pytest.raises(ef.BadInput, match="20 tokens of a sequence or more; given 12"):
        features.fit(x[:, :, :12])


def test_all_hash_functions_of_a_model_are_fitted():
    model = ef.create("ecoformer", classes=3, image=32, widths=(16, 32), depths=(1, 1), heads=(2, 4), ratios=(2.0, 2.0))
    features = model.backbone.stages[0].blocks[0].mixer.features
    before = features.weights.clone()
    assert fit_codes(model, lambda: model(torch.randn(2, 3, 32, 32))) == 1
    assert not torch.equal(features.weights, before)
    assert not model.backbone.stages[0].blocks[0].mixer._forward_pre_hooks


def test_sizes_lie_below_those_of_pvt_v2():
    """No reduction, and one map less in each attention of the first three stages."""
    ours, theirs = (on_meta(ef.design(name, "b0")) for name in ("ecoformer", "pvt-v2"))
    widths, reductions = (32, 64, 160), (8, 4, 2)
    less = 2 * sum(r * r * w * w + w + 2 * w + w * w + w for w, r in zip(widths, reductions, strict=True))
    assert parameters(theirs) - parameters(ours) == less


def test_sizes_that_make_no_code_are_refused():
    with pytest.raises(ValueError, match="bits and anchors are at least 1"):
        HashFeatures(4, bits=0)
