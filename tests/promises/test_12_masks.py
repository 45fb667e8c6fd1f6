"""Promise 12: one meaning everywhere, true is real; and a row that is all padding is finite, forward and backward."""

import inspect

import pytest
import torch

import everyformer as ef
from everyformer.contracts import mix
from everyformer.masks import Causal, Full
from everyformer.registry import Part
from support.parts import context, make, mixers, names, tokens

MIXERS = mixers()
ROOMS = ("embeddings", "mixers", "feedforward", "norms", "backbones", "heads", "models")
MEANINGS = {"mask", "target_mask", "texts_mask"}


def padded():
    """Three sequences: one whole, one all padding, one padded on the right."""
    real = torch.ones(3, 6, dtype=torch.bool)
    real[1], real[2, 4:] = False, False
    return tokens().replace(mask=real)


def shared(dtype, mask):
    """A context whose memory is all padding for the last sequence."""
    found = context(mask=mask)
    memory = found.memory["encoder"]
    real = torch.ones(memory.values.shape[:2], dtype=torch.bool)
    real[2] = False
    found.memory["encoder"] = memory.replace(values=memory.values.to(dtype), mask=real)
    return found


def of(name, mask):
    mixer = make(name)
    if "grid" in mixer.capabilities:
        pytest.skip("a grid has no padding")
    if mask == Causal() and not {"causal", "memory"} & mixer.capabilities:
        pytest.skip("never stands in a causal place")
    return mixer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
@pytest.mark.parametrize("name", MIXERS)
def test_a_row_of_padding_alone_is_finite(name, mask, dtype):
    mixer, batch = of(name, mask).to(dtype), padded()
    values = batch.values.to(dtype).requires_grad_()
    update = mix(mixer, batch.update(values), shared(dtype, mask))
    assert update.isfinite().all()
    update.float().pow(2).sum().backward()
    assert values.grad.isfinite().all()
    assert values.grad[0].abs().sum() > 0
    assert all(p.grad.isfinite().all() for p in mixer.parameters() if p.grad is not None)


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
@pytest.mark.parametrize("name", MIXERS)
def test_true_is_real(name, mask):
    mixer, batch = of(name, mask), padded()
    other = batch.update(torch.where(batch.mask[..., None], batch.values, 9.0))
    moved = batch.update(torch.where(batch.mask[..., None], batch.values + 1.0, batch.values))
    before = mix(mixer, batch, shared(torch.float32, mask))[batch.mask]
    after = mix(mixer, other, shared(torch.float32, mask))[batch.mask]
    assert (before - after).abs().max() <= 1e-6
    assert (mix(mixer, moved, shared(torch.float32, mask))[batch.mask] - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", names(*ROOMS))
def test_no_part_takes_a_mask_of_another_meaning(name):
    from everyformer.registry import find_part

    cls = find_part(name)
    if issubclass(cls, Part):
        taken = set(inspect.signature(cls.forward).parameters)
        assert {each for each in taken if "mask" in each or "padding" in each} <= MEANINGS


SYSTEMS = {
    "bert": {"size": "tiny", "vocabulary": 30},
    "gpt": {"size": "nano", "vocabulary": 30},
    "llama": {"size": "nano", "vocabulary": 30},
    "t5": {"vocabulary": 30, "width": 32, "hidden": 64, "depth": 2, "heads": 2, "head_width": 16},
    "transformer": {"vocabulary": 30, "width": 32, "hidden": 64, "depth": 2, "heads": 2},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_text_of_padding_alone_leaves_a_system_finite(name, dtype):
    model = ef.create(name, seed=0, **SYSTEMS[name]).to(dtype).eval()
    words = torch.randint(1, 30, (3, 6))
    batch = {"inputs": words, "mask": padded().mask}
    if name in ("t5", "transformer"):
        batch |= {"target": words, "target_mask": padded().mask}
    answer = model(**batch)
    assert answer.isfinite().all()
    answer.float().pow(2).mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
