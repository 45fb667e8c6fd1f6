"""`xcit` against timm's, and its attention against a loop over channels."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from support.agreement import close, perturb
from support.pyramids import agree, goes_back


def timm_xcit(**changes):
    xcit = pytest.importorskip("timm.models.xcit", exc_type=ImportError)
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 5, "embed_dim": 32, "depth": 2, "num_heads": 4, "eta": 0.5}
    return perturb(xcit.Xcit(**{**sizes, **changes}), std=0.2)


@pytest.mark.parametrize("normed", [True, False])
def test_equals_timm(normed):
    theirs = timm_xcit(tokens_norm=normed)
    ours = agree(theirs, torch.randn(2, 3, 32, 32))
    goes_back(ours, theirs)
    pictures = torch.randn(1, 3, 24, 40)
    close(ours(pictures), theirs(pictures))


@pytest.mark.parametrize(
    ("size", "published"),
    [("nano-12", 3.05e6), ("tiny-12", 6.7e6), ("small-12", 26.3e6), ("tiny-24", 12.1e6), ("small-24", 47.7e6),
     ("medium-24", 84.4e6), ("large-24", 189.1e6)],
)  # fmt: skip
def test_sizes_are_the_authors(size, published):
    assert parameters(on_meta(ef.design("xcit", size))) == pytest.approx(published, rel=0.01)


def test_channels_attend_to_each_other():
    """Equation 2, channel by channel."""
    mixer = perturb(ef.spec(ef.mixers.CrossCovariance, heads=2).build(6), std=0.3)
    values = torch.randn(1, 5, 6)
    query, key, value = (x.unflatten(-1, (2, 3)) for x in mixer.qkv(values)[0].chunk(3, -1))
    mixed = torch.zeros(5, 6)
    for h in range(2):
        for i in range(3):
            q = query[:, h, i] / query[:, h, i].norm()
            alike = torch.stack([q @ (key[:, h, j] / key[:, h, j].norm()) for j in range(3)])
            weights = (mixer.temperature[h] * alike).softmax(0)
            mixed[:, 3 * h + i] = sum(weights[j] * value[:, h, j] for j in range(3))
    close(mixer(ef.Tokens(values))[0], mixer.output(mixed))


def test_cost_is_linear_in_the_area():
    model = on_meta(ef.design("xcit", "tiny-12"))
    few, many = (flops(model, model.embedding.example(1, size))[""] for size in (224, 448))
    assert many / few == pytest.approx(4, rel=0.01)
