"""`h-net`: chunks, smoothing and the ratio loss against the paper's equations, and the limits of chunking."""

import pytest
import torch

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.backbones.chunks import smoothed
from everyformer.context import Context
from everyformer.generation import generate
from everyformer.interop.weights import Pair, layer
from everyformer.masks import Causal
from everyformer.tokens import Tokens
from support.agreement import recorded
from support.parity import ids, perturb
from support.parts import close, spec_of, tokens

SMALL = {"vocabulary": 20, "width": 32, "inner_width": 48, "outer": 1, "depth": 2, "heads": 4}


def chunked(**options):
    torch.manual_seed(0)
    return perturb(spec_of("backbones.Chunked", **options).build(32))


def fixed(length):
    return ef.spec(ef.backbones.FixedChunks, length=length)


def test_chunks_of_one_are_the_three_bodies_and_the_skip():
    made, given = chunked(chunks=fixed(1)), tokens()
    read = made.encoder(given)
    merged = read.update(made.inner(read).values + made.skip(read.values))
    close(made(given).values, made.decoder(merged).values)


def test_smoothing_is_the_recurrence():
    values, sure = torch.randn(2, 11, 3), torch.rand(2, 11)
    before, wanted = torch.zeros(2, 3), []
    for i in range(11):
        before = sure[:, i, None] * values[:, i] + (1 - sure[:, i, None]) * before
        wanted.append(before)
    close(smoothed(values, sure), torch.stack(wanted, 1))
    close(smoothed(values, torch.ones(2, 11)), values, 0.0)


class OfValues(torch.nn.Module):
    """A backbone as a function of the values alone."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, values):
        return self.body(Tokens(values)).values


def test_equals_a_run_of_the_official_code():
    """Each body a norm of every token by itself."""
    body = ef.spec(ef.backbones.Encoder, blocks=(), norm=ef.spec(ef.norms.LayerNorm))
    bodies = {"encoder": body, "inner": body, "decoder": body}
    made = OfValues(ef.backbones.Chunked(8, chunks=ef.spec(ef.backbones.DynamicChunks), inner_width=12, **bodies))
    pairs = [
        *layer("body.encoder.norm", "encoder.norm"),
        *layer(
            "body.chunks.query", "routing_module.k_proj_layer", bias=False
        ),  # of the later token, in the paper's words
        *layer("body.chunks.key", "routing_module.q_proj_layer", bias=False),
        Pair("body.more", ("main_network.pad_dimension",)),
        *layer("body.inner.norm", "main_network.main_network.norm"),
        *layer("body.skip", "residual_proj"),
        *layer("body.decoder.norm", "decoder.norm"),
    ]
    recorded("h_net", made, pairs)


def by_hand(made, row):
    """Equations 4 to 9 for one sequence, a token at a time."""
    read = made.encoder(Tokens(row[None]), Context(mask=Causal())).values[0]
    chance = [torch.ones(())]
    for t in range(1, len(read)):
        query, key = made.chunks.query(read[t]), made.chunks.key(read[t - 1])
        chance.append(0.5 * (1 - query @ key / (query.norm() * key.norm())))
    begins = [t for t in range(len(read)) if chance[t] >= 0.5]
    more = [] if made.more is None else [made.more]
    chosen = torch.stack([torch.cat((read[t], *more)) for t in begins])
    said = made.inner(Tokens(chosen[None]), Context(mask=Causal())).values[0, :, : read.shape[1]]
    spread, state = [], torch.zeros(read.shape[1])
    for t in range(len(read)):
        if t in begins:
            state = chance[t] * said[begins.index(t)] + (1 - chance[t]) * state
        spread.append(state)
    merged = torch.stack(spread) + made.skip(read)
    return made.decoder(Tokens(merged[None]), Context(mask=Causal())).values[0], len(begins), torch.stack(chance)


@pytest.mark.parametrize("inner_width", [None, 40])
def test_equals_the_equations_written_out(inner_width):
    made, given = chunked(inner_width=inner_width), tokens()
    with listening(made) as said:
        found = made(given, Context(mask=Causal())).values
    parts = [by_hand(made, row) for row in given.values]
    close(found, torch.stack([each for each, _, _ in parts]))
    counts = [count for _, count, _ in parts]
    assert min(counts) < 6
    drawn, mean = sum(counts) / 18, torch.cat([chance for _, _, chance in parts]).mean()
    close(said[0], 0.03 * 6 / 5 * (5 * drawn * mean + (1 - drawn) * (1 - mean)))


def test_the_ratio_loss_is_one_where_it_should_be_and_more_elsewhere():
    def ratio(share, many=6):
        return many / (many - 1) * ((many - 1) * share * share + (1 - share) ** 2)

    assert ratio(1 / 6) == pytest.approx(1)
    assert all(ratio(share) > 1 for share in (0.05, 0.1, 0.3, 1.0))


def test_the_choice_learns_though_it_changes_no_value():
    made = chunked()
    made(tokens()).values.square().sum().backward()
    assert made.chunks.query.weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize("at", range(6))
def test_no_token_reads_a_later_one(at):
    model, inputs = perturb(ef.create("h-net", seed=0, **SMALL)), ids(20, 1, 6)
    other = inputs.clone()
    other[0, at] = (other[0, at] + 7) % 20
    before, after = model(inputs), model(other)
    close(after[:, :at], before[:, :at], 1e-6)
    assert (after[:, at] - before[:, at]).abs().max() > 1e-4


def test_generation_goes_without_a_cache():
    model, prompt = perturb(ef.create("h-net", seed=0, **SMALL)), ids(20, 1, 5)
    said = generate(model, prompt, eos=None, pad=0, max_tokens=4)[0]
    seen = prompt[0].tolist()
    for token in said:
        assert token == model(torch.tensor([seen]))[0, -1].argmax()
        seen.append(token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_width": 16}, "at least as wide"),
        ({"chunks": ef.spec(ef.backbones.DynamicChunks, length=1.0)}, "more than 1"),
    ],
    ids=["narrow", "length"],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        chunked(**options)
