"""`multi-encoder-transformer`: each encoder against another implementation, and the sum of them."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import everyformer as ef
from everyformer.tokens import Tokens
from support.agreement import FIXTURES
from support.parity import ids, perturb
from support.parts import close, make, tokens
from support.systems import tiny


def test_one_encoder_of_attention_is_the_transformer():
    same = {"vocabulary": 20, "width": 32, "hidden": 48, "depth": 2, "heads": 4, "dropout": 0.0}
    ours = perturb(ef.create("multi-encoder-transformer", **same, encoders=("attention",), seed=0))
    plain = ef.create("transformer", **same, pre_norm=True).eval()
    theirs = {name.replace("encoder.bodies.0.", "encoder."): each for name, each in ours.state_dict().items()}
    plain.load_state_dict(theirs)
    inputs, target = ids(20, 2, 7), ids(20, 2, 5, seed=1)
    close(ours(inputs, target), plain(inputs, target))


def test_an_encoder_that_says_nothing_may_be_left_out():
    both = perturb(tiny("multi-encoder-transformer", encoders=("attention", "fourier")).build(seed=0))
    one = perturb(tiny("multi-encoder-transformer", encoders=("attention",)).build(seed=0))
    one.encoder.bodies[0].load_state_dict(both.encoder.bodies[0].state_dict())
    one.encoder.norm.load_state_dict(both.encoder.norm.state_dict())
    given = tokens()
    silent = both.encoder.bodies[1].register_forward_hook(lambda m, i, out: out.update(torch.zeros_like(out.values)))
    close(both.encoder(given).values, one.encoder(given).values)
    silent.remove()
    alone = [body(given).values for body in both.encoder.bodies]
    close(both.encoder(given).values, both.encoder.norm(alone[0] + alone[1]))


def test_the_recurrence_is_torch_s_lstm():
    ours = make("mixers.LongShortTerm")
    theirs = nn.LSTM(32, 16, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for way, ending in enumerate(("", "_reverse")):
            getattr(theirs, f"weight_ih_l0{ending}").copy_(ours.inputs[way].weight)
            getattr(theirs, f"bias_ih_l0{ending}").copy_(ours.inputs[way].bias)
            getattr(theirs, f"weight_hh_l0{ending}").copy_(ours.states[way].weight)
            getattr(theirs, f"bias_hh_l0{ending}").zero_()
    values = tokens().values.requires_grad_()
    found, wanted = ours(Tokens(values)), theirs(values)[0]
    close(found, wanted)
    one, other = (torch.autograd.grad(each.square().sum(), values, retain_graph=True)[0] for each in (found, wanted))
    close(one, other)


def test_static_expansion_equals_the_authors_class():
    kept = load_file(FIXTURES / "expansion.safetensors")
    made = ef.mixers.StaticExpansion(8, lengths=(3, 5))
    theirs = {
        "query": "query_exp_vectors",
        "shift": "bias_exp_vectors",
        "key": "key_embed",
        "gate": "selector_embed",
        "values.0": "class_a_embed",
        "values.1": "class_b_embed",
    }
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            place, _, kind = name.rpartition(".")
            parameter.copy_(kept[f"weight.{theirs[place]}.{kind}"])
    values = kept["input"].clone().requires_grad_()
    output = made(Tokens(values))
    close(output, kept["output"])
    (output * kept["cotangent"]).sum().backward()
    close(values.grad, kept["gradient.input"])
    for name, parameter in made.named_parameters():
        place, _, kind = name.rpartition(".")
        close(parameter.grad, kept[f"gradient.{theirs[place]}.{kind}"])


def test_the_gated_window_is_a_convolution_and_its_gate():
    made, given = make("mixers.GatedWindow"), tokens()
    padded = torch.cat((torch.zeros(3, 1, 32), given.values, torch.zeros(3, 1, 32)), 1)
    near = torch.stack([padded[:, i : i + 6] for i in range(3)], -1)
    both = torch.einsum("bnck,eck->bne", near, made.conv.weight) + made.conv.bias
    close(made(given), both[..., :32] * both[..., 32:].sigmoid())


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        ("mixers.GatedWindow", {"kernel": 4}, "odd"),
        ("mixers.StaticExpansion", {"lengths": ()}, "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(part, options, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        make(part, **options)


def test_an_unknown_kind_of_encoder_is_named():
    with pytest.raises(ef.UnknownName, match="did you mean 'fourier'"):
        ef.design("multi-encoder-transformer", encoders=("furier",))
