"""`mlp-mixer` against timm's."""

import pytest
import torch

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.designs import design_of
from everyformer.interop import from_timm, mlp_mixer
from everyformer.interop.weights import tensors
from support.agreement import perturb, same_answers, same_gradients
from support.systems import model_of, tiny


def theirs(block="MixerBlock"):
    timm = pytest.importorskip("timm.models.mlp_mixer", exc_type=ImportError)
    kind = getattr(timm, block)
    return timm.MlpMixer(
        img_size=32, patch_size=8, embed_dim=24, num_blocks=2, num_classes=5, block_layer=kind,
        mlp_ratio=(0.5, 4.0) if block == "MixerBlock" else 4.0,
    )  # fmt: skip


def test_equals_timm():
    """What is added to all channels of a patch alike, as the last shifts of the mixer are, no norm after it sees."""
    model = perturb(theirs())
    ours = from_timm(model)
    pictures = torch.randn(2, 3, 32, 32)
    answer, expected = ours(pictures), model(pictures)
    same_answers(answer, expected)
    weights = torch.randn(expected.shape)
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    given = {name: tensor.grad for name, tensor in tensors(model).items()}
    unseen = [f"backbone.blocks.{i}.mixer.down.bias" for i in range(2)]
    same_gradients(ours, mlp_mixer.table(design_of(ours)), given, nothing=unseen)


def test_blocks_of_another_kind_are_refused():
    with pytest.raises(ef.DoesNotFit, match="blocks='ResBlock'"):
        from_timm(theirs("ResBlock"))


@pytest.mark.parametrize(("size", "published"), [("s16", 18_528_264), ("b16", 59_880_472), ("l16", 208_196_168)])
def test_sizes_are_the_published_ones(size, published):
    """18M (19M), 59M, 207M (table 1)."""
    assert parameters(on_meta(ef.design("mlp-mixer", size))) == published


def test_a_map_of_another_size_is_resampled():
    """A map that is the same everywhere has the same update everywhere, whatever its size, where the MLP gives one."""
    mixer = ef.spec(ef.mixers.TokenMLP, grid=(4, 4), hidden=6).build(8)
    with torch.no_grad():
        mixer.down.weight.copy_(mixer.down.weight[:1].expand(16, -1).clone())
        mixer.down.bias.fill_(0.3)
    values = torch.randn(1, 1, 8)
    small, large = (mixer(ef.Tokens(values.expand(1, n, -1), grid=grid)) for n, grid in ((16, (4, 4)), (40, (8, 5))))
    torch.testing.assert_close(large, small[:, :1].expand(1, 40, -1))


def test_what_a_cell_hears_it_hears_in_its_own_channel():
    mixer = model_of(tiny("mlp-mixer")).backbone.blocks[0].mixer
    values = torch.randn(1, 16, 32, requires_grad=True)
    update = mixer(ef.Tokens(values, grid=(4, 4)))
    (told,) = torch.autograd.grad(update[0, 3, 7], values)
    assert (told[0, :, 7] != 0).all()
    told[0, :, 7] = 0
    assert told.abs().max() == 0
