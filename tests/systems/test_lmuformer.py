"""`lmuformer` and its spiking form against runs of the authors' code, and the laws of the Legendre memory."""

import pytest
import torch

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.interop.forms import Squeezed
from everyformer.interop.weights import Pair, batch_norm, layer
from everyformer.spikes import spikes
from support.agreement import recorded
from support.parts import close, tokens

SIZES = {"classes": 3, "mels": 5, "frames": 128, "width": 8, "ratio": 2.0}


def pairs(block, inner):
    """What both forms share; their linear maps are convolutions of kernel 1 where `inner` says so."""
    flat = {"form": Squeezed(2)}
    ours = "backbone.blocks.0"

    def conv(to, name):
        return [Pair(f"{to}.weight", (f"{name}.weight",), **flat), Pair(f"{to}.bias", (f"{name}.bias",))]

    return [
        *layer(f"{ours}.mixer.input", f"{block}.attn.lmu.W_u"),
        *layer(f"{ours}.mixer.hidden", f"{block}.attn.lmu.W_h"),
        *conv(f"{ours}.mixer.output", f"{block}.attn.proj_conv"),
        *conv(f"{ours}.feedforward.up", f"{block}.mlp.fc1_conv"),
        *conv(f"{ours}.feedforward.down", f"{block}.mlp.fc2_conv"),
        *(each for to, name in inner.items() for each in batch_norm(f"{ours}.{to}", f"{block}.{name}")),
        *layer("head.classify", "head"),
        *layer("embedding.places", "patch_embed.rpe_conv", bias=False),
    ]


def test_equals_a_run_of_the_official_code():
    table = pairs(
        "block.0",
        {"residual.0.norm": "attn.proj_bn", "feedforward.norm.0": "mlp.fc1_bn", "feedforward.norm.1": "mlp.fc2_bn"},
    )
    for i in range(4):
        table += layer(f"embedding.convs.{i}", f"patch_embed.conv_layers.{i}.0", bias=False)
        table += batch_norm(f"embedding.after.{i}.norm", f"patch_embed.conv_layers.{i}.3")
    recorded("lmuformer", ef.create("lmuformer", **SIZES), table)


def test_spiking_equals_a_run_of_the_official_code():
    table = pairs(
        "block.0",
        {
            "mixer.written.norm": "attn.lmu.bn_u", "mixer.read.norm": "attn.lmu.bn_m", "mixer.made.norm": "attn.lmu.bn_h",
            "mixer.given.norm": "attn.proj_bn", "feedforward.inner.norm": "mlp.fc1_bn", "feedforward.outer.norm": "mlp.fc2_bn",
        },
    )  # fmt: skip
    for i in range(4):
        number = str(i or "")
        table += layer(f"embedding.convs.{i}", f"patch_embed.proj_conv{number}", bias=False)
        table += batch_norm(f"embedding.after.{i}.norm", f"patch_embed.proj_bn{number}")
    table += batch_norm("embedding.last.norm", "patch_embed.rpe_bn")
    recorded("spiking_lmuformer", ef.create("spiking-lmuformer", **SIZES), table)


def test_the_memory_is_the_recurrence_and_holds_the_past():
    """m_t = A m_(t-1) + B u_t; a slow signal comes back as sum_i P_i(2 r - 1) m_i, at a delay of r windows."""
    window, order = 64.0, 12
    mixer = ef.mixers.LegendreMemory(8, memory=order, window=window)
    signal = torch.sin(torch.arange(200) / 30)[None, :, None]
    found, state = mixer.memory(signal)[0], torch.zeros(order)
    for t in range(200):
        state = mixer.transition @ state + mixer.drive * signal[0, t, 0]
        close(found[t], state, 2e-5)
    close(mixer.memory(signal[:, 90:], found[None, 89])[0], found[90:], 2e-5)
    for delay in (0, 16, 32, 48, 64):
        x, waves = 2 * delay / window - 1, [1.0, 2 * delay / window - 1]
        for i in range(1, order - 1):
            waves.append(((2 * i + 1) * x * waves[i] - i * waves[i - 1]) / (i + 1))
        close(found[199] @ torch.tensor(waves), signal[0, 199 - delay, 0], 0.02)


def test_a_stream_of_any_length_goes_on_from_its_coefficients():
    """With padding on either side, what is kept belongs to the last real token."""
    mixer = ef.mixers.LegendreMemory(16, window=6.0)
    whole, context = tokens(9, 2, width=16), Context(cache=Cache())
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 2:] = False
    mixer(ef.Tokens(whole.values[:, :5], mask=mask), context)
    later = mixer(ef.Tokens(whole.values[:, 5:]), context)
    close(later[0], mixer(whole)[0, 5:])
    close(later[1:], mixer(ef.Tokens(torch.cat((whole.values[1:, :2], whole.values[1:, 5:]), 1)))[:, 2:])


def test_neurons_leak_fire_and_begin_again():
    current = torch.tensor([[[1.9], [1.9], [0.0], [3.0]]], requires_grad=True)
    fired = spikes(current)
    assert fired.flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    fired.sum().backward()
    assert (current.grad > 0).all()
    assert set(ef.create("spiking-lmuformer", **SIZES).eval()(torch.randn(2, 128, 5)).shape) == {2, 3}


def test_size_is_the_published_one():
    """1.62 M parameters for the 35 words of Speech Commands V2."""
    count = parameters(on_meta(ef.design("lmuformer", "speech-commands")))
    assert abs(count - 1.62e6) < 0.01 * 1.62e6


def test_frames_need_convolutions():
    with pytest.raises(ValueError, match="convs is at least 1"):
        ef.embeddings.FrameConvs(8, convs=0)
