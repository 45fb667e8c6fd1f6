"""`gmm-mask-attention` against a run of the authors' code, and the limits of its mask."""

import pytest
import torch

import everyformer as ef
from everyformer.contracts import Scored
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop.forms import Wrapped
from everyformer.interop.weights import Pair, layer
from support.agreement import close, perturb, recorded


def test_equals_a_run_of_the_official_code():
    """`to_patch_embedding` is reordered to channel, row, column; a table of theirs (K, H, 1, 1) to (H, K)."""
    pairs = [Pair("embedding.positions.table", ("pos_embedding",), Wrapped(1))]
    pairs += layer("embedding.project", "to_patch_embedding.1")
    for i in (0, 1):
        ours, (attention, mlp) = f"backbone.blocks.{i}", (f"transformer.layers.{i}.{k}" for k in (0, 1))
        pairs += layer(f"{ours}.residual.0.norm", f"{attention}.norm") + layer(f"{ours}.residual.1.norm", f"{mlp}.norm")
        pairs += layer(f"{ours}.mixer.qkv", f"{attention}.fn.to_qkv", bias=False)
        pairs += layer(f"{ours}.mixer.output", f"{attention}.fn.to_out.0")
        pairs.append(Pair(f"{ours}.mixer.steps.0.spread.weight", (f"{attention}.fn.mask.sigma",)))
        pairs.append(Pair(f"{ours}.mixer.steps.0.weight.weight", (f"{attention}.fn.mask.alpha",)))
        pairs += layer(f"{ours}.feedforward.up", f"{mlp}.fn.net.0") + layer(
            f"{ours}.feedforward.down", f"{mlp}.fn.net.3"
        )
    pairs += layer("head.norm", "mlp_head.0") + layer("head.classify", "mlp_head.1")
    model = ef.create(
        "gmm-mask-attention", classes=3, image=16, channels=2, width=12, depth=2, heads=2, components=2, drop_path=0.0
    )
    recorded("gmm", model, pairs)


def test_sizes_are_the_published_ones():
    """2.7 M parameters and 170.9 M multiply-adds, the products of attention left out."""
    model = on_meta(ef.design("gmm-mask-attention"))
    assert parameters(model) == pytest.approx(2.7e6, rel=0.01)
    products = 9 * 2 * 64 * 64 * 192
    assert flops(model)[""] / 2 - products == pytest.approx(170.9e6, rel=0.01)


def step(components=2, heads=2):
    return perturb(ef.spec(ef.scores.GaussianMixture, components=components).build(heads, 8), std=0.1)


PLACES = ef.grids.places_of((3, 4), torch.device("cpu"))


def test_the_mask_depends_on_the_distance_alone():
    made = step()
    with torch.no_grad():
        made.spread.weight.copy_(torch.tensor([[0.8, 2.0], [-1.5, 3.0]]))
    mask = made.mask(PLACES, PLACES)[0]
    close(mask, mask.mT)
    for i, one in enumerate(PLACES[0].tolist()):
        for j, other in enumerate(PLACES[0].tolist()):
            square = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
            for head in (0, 1):
                sigma, alpha = made.spread.weight[head], made.weight.weight[head]
                wanted = (alpha * torch.exp(-square / (2 * (sigma**2 + 1e-5)))).sum()
                assert mask[head, i, j].item() == pytest.approx(wanted.item(), abs=1e-5)


@pytest.mark.parametrize(("weight", "spread"), [(0.5, 1e6), (0.0, 1.0)], ids=["wide", "nothing"])
def test_wide_gaussians_are_plain_attention_and_none_are_the_mean(weight, spread):
    """Two of weight 1/2 that are far wider than the map multiply by 1; of weight 0 all scores are equal."""
    mixer = perturb(
        ef.spec(ef.mixers.Attention, heads=2, steps=(ef.spec(ef.scores.GaussianMixture, components=2),)).build(16)
    )
    plain = ef.spec(ef.mixers.Attention, heads=2).build(16)
    plain.load_state_dict({name: each for name, each in mixer.state_dict().items() if "steps" not in name})
    with torch.no_grad():
        mixer.steps[0].weight.weight.fill_(weight)
        mixer.steps[0].spread.weight.fill_(spread)
        if not weight:
            plain.qkv.weight[:16], plain.qkv.bias[:16] = 0, 0
    tokens = ef.Tokens(torch.randn(2, 12, 16), positions=PLACES, grid=(3, 4))
    close(mixer(tokens), plain(tokens))


def test_an_attention_that_does_not_tell_where_its_keys_stand_is_refused():
    products = torch.randn(1, 2, 3, 4)
    with pytest.raises(ef.BadInput, match="asks where queries and keys stand"):
        step().scores(products, Scored(products, products, None, ef.Context()))
    with pytest.raises(ef.DoesNotFit, match="at least 1 component; given 0"):
        ef.spec(ef.scores.GaussianMixture, components=0).build(2, 8)
