"""The dense feedforwards against their equations and Hugging Face's."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

import everyformer as ef
from everyformer.feedforward import MLP, Gated
from everyformer.tokens import Tokens
from support.agreement import close

X = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0)) * 2


def silu(x):
    return x / (1 + torch.exp(-x))


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


LITERAL = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
}


def linear(layer, x):
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", LITERAL)
def test_mlp_equals_equation_2(activation, bias):
    mlp = ef.spec(MLP, hidden=20, activation=activation, bias=bias).build(12)
    assert (mlp.up.bias is not None) == (mlp.down.bias is not None) == bias
    close(mlp(Tokens(X)), linear(mlp.down, LITERAL[activation](linear(mlp.up, X))))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gated_equals_equation_6(activation, bias):
    """SwiGLU and GeGLU: (act(x W) * x V) W2."""
    gated = ef.spec(Gated, hidden=20, activation=activation, bias=bias).build(12)
    w, v = gated.up.weight.split(20)
    b, c = (0, 0) if not bias else gated.up.bias.split(20)
    close(gated(Tokens(X)), linear(gated.down, LITERAL[activation](X @ w.T + b) * (X @ v.T + c)))


def test_gated_equals_llama():
    theirs = LlamaMLP(LlamaConfig(hidden_size=12, intermediate_size=20, num_attention_heads=3))
    ours = ef.spec(Gated, hidden=20).build(12)
    with torch.no_grad():
        ours.up.weight.copy_(torch.cat((theirs.gate_proj.weight, theirs.up_proj.weight)))
        ours.down.weight.copy_(theirs.down_proj.weight)
    answer, expected = ours(Tokens(X)), theirs(X)
    close(answer, expected)
    weights = torch.randn_like(answer)
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    close(ours.up.weight.grad, torch.cat((theirs.gate_proj.weight.grad, theirs.up_proj.weight.grad)))
    close(ours.down.weight.grad, theirs.down_proj.weight.grad)


def test_hidden_widths():
    """A gated feedforward without a width of its own has the parameters of an MLP of the same ratio, within 2 %."""
    count = {part: sum(p.numel() for p in ef.spec(part, bias=False).build(96).parameters()) for part in (MLP, Gated)}
    assert count[MLP] == 2 * 4 * 96 * 96
    assert abs(count[Gated] / count[MLP] - 1) < 0.02
    assert ef.spec(MLP, ratio=0.5).build(96).up.out_features == 48


@pytest.mark.parametrize("part", [MLP, Gated], ids=lambda p: p.__name__)
def test_dropout_is_on_the_hidden_values_in_training_alone(part):
    layer = ef.spec(part, hidden=4000, dropout=0.5).build(12)
    torch.nn.init.ones_(layer.down.weight)
    whole = layer.eval()(Tokens(X))
    assert torch.equal(layer(Tokens(X)), whole)
    assert not torch.equal(layer.train()(Tokens(X)), whole)


@pytest.mark.parametrize("part", [MLP, Gated], ids=lambda p: p.__name__)
def test_a_misspelt_activation_is_refused(part):
    with pytest.raises(ef.EveryformerError, match="unknown activation 'gellu'; did you mean 'gelu'"):
        ef.spec(part, activation="gellu").build(12)
