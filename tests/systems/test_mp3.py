"""`mp3`: no position leaks in, unseen patches are seen by nobody, and the loss is that of the paper."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.objectives import Places
from support.systems import model_of, tiny


def cells(pictures):
    return pictures.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)


def put(cells):
    return F.fold(cells.permute(0, 1, 3, 4, 2).flatten(1, 3), 16, 4, stride=4)


def test_permuted_patches_permute_the_answers():
    model = model_of(tiny("mp3"))
    pictures, seen = torch.randn(2, 3, 16, 16), torch.rand(2, 16) < 0.4
    seen[:, 0] = True
    order = torch.randperm(16)
    moved = put(cells(pictures)[:, :, order])
    assert torch.equal(cells(moved), cells(pictures)[:, :, order])
    torch.testing.assert_close(
        model(moved, seen=seen[:, order]), model(pictures, seen=seen)[:, order], rtol=1e-5, atol=1e-5
    )


def test_an_unseen_patch_changes_no_other_answer():
    model = model_of(tiny("mp3"))
    pictures, seen = torch.randn(1, 3, 16, 16), torch.ones(1, 16, dtype=torch.bool)
    seen[0, 5] = False
    changed = cells(pictures).clone()
    changed[:, :, 5] += 1
    before, after = model(pictures, seen=seen), model(put(changed), seen=seen)
    others = [i for i in range(16) if i != 5]
    torch.testing.assert_close(after[:, others], before[:, others], rtol=0, atol=1e-6)
    assert (after[:, 5] - before[:, 5]).abs().max() > 1e-3
    full = torch.ones(1, 16, dtype=torch.bool)
    torch.testing.assert_close(model(pictures, seen=full), model(pictures), rtol=1e-5, atol=1e-6)


def test_attention_is_over_the_seen_alone():
    """softmax(Q K_S^T / sqrt(K)) V_S, written out for one block."""
    model = model_of(tiny("mp3").set("backbone.norm", None).set("head", None))
    mixer = model.backbone.blocks[0].mixer
    caught = []
    mixer.register_forward_hook(lambda m, given, after: caught.append((given[0], after)))
    seen = torch.tensor([[True, False, True, False] * 4])
    model(torch.randn(1, 3, 16, 16), seen=seen)
    tokens, update = caught[0]
    q, k, v = (t.unflatten(-1, (4, 8)).transpose(1, 2) for t in mixer.qkv(tokens.values).chunk(3, -1))
    k, v = k[:, :, seen[0]], v[:, :, seen[0]]
    mixed = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    torch.testing.assert_close(mixer.output(mixed.transpose(1, 2).flatten(2)), update, rtol=1e-5, atol=1e-5)


def test_the_loss_is_cross_entropy_of_the_places():
    model = model_of(tiny("mp3"))
    pictures, noise = torch.randn(3, 3, 16, 16), torch.rand(3, 16)
    seen = noise.argsort(1).argsort(1) < 4
    loss = Places()(model, {"inputs": pictures, "noise": noise})
    logits = model(pictures, seen=seen)
    expected = -torch.log_softmax(logits, -1).diagonal(dim1=1, dim2=2).sum()
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.count) == 48


def test_pictures_of_another_number_of_patches_are_refused():
    with pytest.raises(ef.BadInput, match=r"expected seen patches as booleans \(1, 12\)"):
        Places()(model_of(tiny("mp3")), {"inputs": torch.zeros(1, 3, 16, 16)[..., :12]})
