"""Every mixer takes the place of any other: the same encoder and decoder around it learn real text, or refuse it."""

import argparse
import inspect

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.registry import find_part
from everyformer.specs import signature
from support.parts import mixers, spec_of

LENGTH, BATCH, STEPS, HIDDEN = 32, 32, 200, 128
TEXT = torch.tensor([min(byte, 127) for byte in inspect.getsource(argparse).encode()])
OPTIONS = {
    "mixers.FactorAttention": {"windows": ((3, 1), (5, 1), (7, 2))},
    "mixers.SampledBernoulliAttention": {"bits": 5, "hashes": 16},
}
"""What says of each of four heads what it does, and what suits so few tokens."""
MIXERS = [name for name in mixers() if "memory" not in find_part(name).capabilities]


def unigrams():
    """The logarithm of how often each byte stands in the text."""
    counts = torch.bincount(TEXT, minlength=HIDDEN)
    return (counts / len(TEXT)).clamp(min=1e-9).log()


def model(name, backbone):
    sizes = {"heads": 4, "length": LENGTH}
    of_place = {option: size for option, size in sizes.items() if option in signature(find_part(name))}
    block = ef.spec(
        ef.backbones.Block,
        mixer=spec_of(name, **of_place, **OPTIONS.get(name, {})),
        feedforward=ef.spec(ef.feedforward.MLP, ratio=2.0),
    )
    positions = ef.spec(ef.positions.Learned, length=LENGTH)
    body = ef.spec(ef.parts("backbones")[backbone], blocks=(block, block), norm=ef.spec(ef.norms.LayerNorm))
    design = ef.spec(
        ef.models.Model,
        width=32,
        embedding=ef.spec(ef.embeddings.Text, vocabulary=HIDDEN + 1, positions=positions),
        backbone=body,
        head=ef.spec(ef.heads.TokenHead, vocabulary=HIDDEN),
    )
    return design.build()


def gain(made, sample):
    """Nats a byte that the model is better than unigrams after 200 steps of Adam, on the same bytes."""
    adam = torch.optim.Adam(made.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)

    def batch(size):
        starts = torch.randint(len(TEXT) - LENGTH - 1, (size, 1), generator=generator)
        return sample(TEXT[starts + torch.arange(LENGTH + 1)], generator)

    for _ in range(STEPS):
        inputs, labels = batch(BATCH)
        adam.zero_grad()
        F.cross_entropy(made(inputs).flatten(0, 1), labels.flatten(), ignore_index=-100).backward()
        adam.step()
    with torch.no_grad():
        inputs, labels = batch(256)
        real = labels != -100
        return (-unigrams()[labels[real]].mean() - F.cross_entropy(made(inputs)[real], labels[real])).item()


def following(window, generator):
    return window[:, :-1], window[:, 1:]


def hidden(window, generator):
    window = window[:, :-1]
    gone = torch.rand(window.shape, generator=generator) < 0.15
    return window.masked_fill(gone, HIDDEN), window.masked_fill(~gone, -100)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS)
def test_in_an_encoder_it_learns_hidden_bytes(name):
    torch.manual_seed(0)
    if "grid" in find_part(name).capabilities:
        with pytest.raises(ef.EveryformerError, match="grid"):
            model(name, "Encoder")(TEXT[None, :LENGTH])
        return
    found = gain(model(name, "Encoder"), hidden)
    if name == "mixers.Identity":
        assert found < 0.01, "a byte that is hidden is told by others alone"
    else:
        assert found > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS)
def test_in_a_decoder_it_learns_the_next_byte_or_is_refused(name):
    torch.manual_seed(0)
    if "causal" not in find_part(name).capabilities:
        with pytest.raises(ef.DoesNotFit, match="is not 'causal'"):
            model(name, "Decoder")
        return
    assert gain(model(name, "Decoder"), following) > 0.3
