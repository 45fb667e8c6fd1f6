"""`recurrentgemma` against Hugging Face, and its recurrence against the equations."""

import pytest
import torch
from torch.nn import functional as F
from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.mixers.real_gated import bounded_root
from support.agreement import equal
from support.parity import ids, perturb, ragged
from support.parts import close, tokens


@pytest.mark.parametrize("changes", [{}, {"lru_width": 24, "attention_bias": True, "num_key_value_heads": 1}], ids=str)
def test_equals_hugging_face(changes):
    """Padded on the right: theirs writes padding on the left into its state."""
    config = RecurrentGemmaConfig(
        vocab_size=61, hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        attention_window_size=6, pad_token_id=0, logits_soft_cap=3.0, **changes,
    )  # fmt: skip
    theirs = perturb(RecurrentGemmaForCausalLM(config))
    ours = from_transformers(theirs)
    inputs, mask = ids(61, 3, 19), ragged(3, 19)
    expected = theirs(inputs, attention_mask=mask.long(), use_cache=False).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_the_recurrence_is_that_of_the_equations():
    """Equations 1 to 4 of Griffin, one token after the other, without the branch of the gate."""
    mixer = ef.mixers.RealGatedRecurrence(12, heads=3, kernel=2)
    x = tokens(9, batch=2, width=12).values
    gate, u = (x @ mixer.project.weight.T + mixer.project.bias).split(12, -1)
    before = torch.cat((torch.zeros(2, 1, 12), u[:, :-1]), 1)
    u = before * mixer.convolution.weight[:, 0, 0] + u * mixer.convolution.weight[:, 0, 1] + mixer.convolution.bias
    state, found = torch.zeros(2, 12), []
    for t in range(9):
        r, i = (
            torch.sigmoid(u[:, t] @ torch.block_diag(*each.weight) + each.bias.flatten())
            for each in (mixer.keep, mixer.enter)
        )
        a = torch.sigmoid(-mixer.rate) ** (8 * r)
        state = a * state + (torch.sqrt(1 - a**2) if t else 1) * i * u[:, t]
        found.append(state)
    close(mixer(ef.Tokens(x)), mixer.output(F.gelu(gate, approximate="tanh") * torch.stack(found, 1)))


def test_a_square_root_has_a_bounded_derivative():
    x = torch.tensor([0.0, 1e-9, 0.25], requires_grad=True)
    bounded_root(x).sum().backward()
    close(bounded_root(x), x.sqrt())
    close(x.grad / 1000, torch.tensor([1.0, 1.0, 0.001]))


@pytest.mark.parametrize(("size", "published"), [("2b", 2.7e9), ("9b", 8.6e9)])
def test_sizes_are_the_published_ones(size, published):
    assert parameters(on_meta(ef.design("recurrentgemma", size))) == pytest.approx(published, rel=0.01)


def test_what_a_recurrence_remembers_does_not_grow():
    model = ef.create("recurrentgemma", "nano", vocabulary=11, width=16, hidden=24, depth=2, heads=2, window=4).eval()
    held = []
    for length in (5, 50):
        cache = ef.context.Cache()
        model(ids(11, 1, length), context=ef.context.Context(cache=cache))
        held.append(cache.bytes)
    assert held[0] == held[1]


def test_a_layer_of_another_kind_is_refused():
    with pytest.raises(ef.UnknownName, match="layer of the pattern 'retention'"):
        ef.design("recurrentgemma", "nano", pattern=("recurrent", "retention"))
