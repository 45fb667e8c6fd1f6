"""Retention, gated linear attention and the delta nets, a token at a time as their papers write them."""

import math

import pytest
import torch

import everyformer as ef
from everyformer.mixers import DeltaNet, GatedDeltaNet, GatedLinearAttention, Linformer, Retention, StateSpace
from everyformer.tokens import Tokens
from support.agreement import perturb, same_as_function

D, H, N = 16, 2, 9


class Called(torch.nn.Module):
    """A mixer as a function of values."""

    def __init__(self, mixer):
        super().__init__()
        self.mixer = perturb(mixer, std=0.2)

    def forward(self, values):
        return self.mixer(Tokens(values))


def silu(x):
    return x / (1 + (-x).exp())


def rms(x, scale=1.0, eps=1e-5):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * scale


def conv(x, weight):
    """Each channel over the last tokens, zeros before the first."""
    kernel = weight.shape[-1]
    return torch.stack([
        sum(weight[:, 0, j] * x[t - kernel + 1 + j] for j in range(kernel) if t - kernel + 1 + j >= 0)
        for t in range(len(x))
    ])  # fmt: skip


def heads(x, h):
    return x.view(len(x), H, -1)[:, h]


def over(batch, function):
    return torch.stack([function(x) for x in batch])


def retention(p, values):
    """Equation 6 in each head, equation 8 around them."""

    def one(x):
        query, key, value, gate = (x @ p["mixer.project.weight"].T).split((D, D, 2 * D, 2 * D), -1)
        found = []
        for h in range(H):
            state, out, rate = torch.zeros(D // H, 2 * D // H), [], 1 - 2.0 ** (-5 - h)
            for q, k, v in zip(heads(query, h), heads(key, h), heads(value, h)):
                state = rate * state + torch.outer(k / math.sqrt(D // H), v)
                out.append(q @ state)
            found.append(rms(torch.stack(out), eps=1e-6))
        return (silu(gate) * torch.cat(found, -1)) @ p["mixer.output.weight"].T

    return over(values, one)


def gla(p, values):
    """Equations of section 4.4."""

    def one(x):
        query, key, value, gate = (x @ p["mixer.project.weight"].T).split((D // 2, D // 2, D, D), -1)
        keep = x @ p["mixer.forget.0.weight"].T @ p["mixer.forget.1.weight"].T + p["mixer.forget.1.bias"]
        keep = (1 / (1 + (-keep).exp())) ** (1 / 16)
        found = []
        for h in range(H):
            state, out = torch.zeros(D // 2 // H, D // H), []
            for q, k, v, a in zip(heads(query, h), heads(key, h), heads(value, h), heads(keep, h)):
                state = torch.diag(a) @ state + torch.outer(k, v)
                out.append(q / math.sqrt(D // 2 // H) @ state)
            found.append(rms(torch.stack(out), p["mixer.norm.weight"]))
        return (torch.cat(found, -1) * silu(gate)) @ p["mixer.output.weight"].T

    return over(values, one)


def delta(gated, expand):
    def function(p, values):
        def one(x):
            mixed = silu(conv(x @ p["mixer.qkv.weight"].T, p["mixer.convolution.weight"]))
            query, key, value = mixed.split((D, D, expand * D), -1)
            strength = 1 / (1 + (-(x @ p["mixer.strength.weight"].T)).exp())
            keep = torch.ones(len(x), H)
            if gated:
                step = (1 + (x @ p["mixer.step.weight"].T + p["mixer.step_bias"]).exp()).log()
                keep = (-p["mixer.rate"].exp() * step).exp()
            found = []
            for h in range(H):
                state, out = torch.zeros(D // H, expand * D // H), []
                for t in range(len(x)):
                    q, k, v = heads(query, h)[t], heads(key, h)[t], heads(value, h)[t]
                    q, k = q / (q @ q + 1e-6).sqrt() / math.sqrt(D // H), k / (k @ k + 1e-6).sqrt()
                    b = strength[t, h]
                    state = keep[t, h] * (torch.eye(D // H) - b * torch.outer(k, k)) @ state + b * torch.outer(k, v)
                    out.append(q @ state)
                found.append(rms(torch.stack(out), p["mixer.norm.weight"]))
            answer = torch.cat(found, -1)
            return (answer * silu(x @ p["mixer.gate.weight"].T) if gated else answer) @ p["mixer.output.weight"].T

        return over(values, one)

    return function


CASES = {
    "retention": (Retention(D, heads=H), retention),
    "gla": (GatedLinearAttention(D, heads=H, rank=4), gla),
    "delta": (DeltaNet(D, heads=H), delta(gated=False, expand=1)),
    "gated delta": (GatedDeltaNet(D, heads=H, expand=2, kernel=3), delta(gated=True, expand=2)),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_recurrence_of_the_paper(name):
    torch.manual_seed(0)
    mixer, literal = CASES[name]
    same_as_function(Called(mixer), literal, torch.randn(2, N, D))


def test_linformer_equals_its_equation():
    def literal(p, values):
        def one(x):
            query, key, value = (x @ p["mixer.qkv.weight"].T + p["mixer.qkv.bias"]).split(D, -1)
            key, value = p["mixer.keys"][:, : len(x)] @ key, p["mixer.values"][:, : len(x)] @ value
            found = []
            for h in range(H):
                scores = heads(query, h) @ heads(key, h).T / math.sqrt(D // H)
                found.append(scores.softmax(-1) @ heads(value, h))
            return torch.cat(found, -1) @ p["mixer.output.weight"].T + p["mixer.output.bias"]

        return over(values, one)

    same_as_function(Called(Linformer(D, heads=H, length=12, rank=5)), literal, torch.randn(2, N, D))


def test_linformer_of_full_rank_and_identity_is_attention():
    torch.manual_seed(0)
    mixer, wanted = Linformer(D, heads=H, length=N, rank=N), ef.mixers.Attention(D, heads=H)
    wanted.load_state_dict({name: t for name, t in mixer.state_dict().items() if name not in ("keys", "values")})
    with torch.no_grad():
        mixer.keys.copy_(torch.eye(N))
        mixer.values.copy_(torch.eye(N))
    tokens = Tokens(torch.randn(2, N, D))
    torch.testing.assert_close(mixer(tokens), wanted(tokens))


def test_linformer_refuses_what_is_longer():
    with pytest.raises(ef.BadInput, match="13 tokens, and Linformer was built for 12"):
        Linformer(D, heads=H, length=12)(Tokens(torch.randn(1, 13, D)))


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (Retention, {"heads": 3}, "width 16 is not a multiple of heads 3"),
        (GatedLinearAttention, {"heads": 3}, "half the width 8 is not a multiple of heads 3"),
        (StateSpace, {"heads": 4, "groups": 3}, "heads 4 is not a multiple"),
        (DeltaNet, {"heads": 0}, "heads is at least 1; given 0"),
    ],
)
def test_heads_that_do_not_divide_are_refused(part, options, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        ef.spec(part, **options).build(D)
