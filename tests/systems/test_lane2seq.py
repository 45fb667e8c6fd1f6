"""Lane2Seq: lanes written and read in every format, the tokens that count, the gradient of what is rewarded, and torch's layers."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from everyformer.data.roads import POINTS, render_road
from everyformer.data.written_lanes import Anchor, Curve, Polygon, Writer, at_equal_heights, f1, line_iou, reward
from everyformer.generation import generate
from everyformer.objectives import PolicyGradient, SequenceToSequence
from everyformer.published.lane2seq import MARKS
from support.agreement import close, same_answers
from support.systems import model_of, tiny

FORMS = [Anchor(), Polygon(), Curve()]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_lanes_are_read_as_they_were_written(form):
    """Every number is at most half a bin away, and the lanes are those that were painted."""
    writer = Writer(1000)
    for seed in range(6):
        lanes = render_road(seed).lanes
        tokens = writer.write(form, lanes)
        assert len(tokens) == len(lanes) * (form.count + 1) + 1
        assert tokens[-1] == writer.mark("end")
        found = writer.read(form, tokens)
        for lane, again, k in zip(lanes, found, range(len(lanes)), strict=True):
            own = np.array(tokens[k * (form.count + 1) :][: form.count]) / 999
            assert np.abs(own - form.numbers(lane)).max() <= 0.5 / 999 + 1e-9
            assert np.abs(at_equal_heights(again, POINTS) - lane).max() < 0.02
    assert f1([found], [lanes]) == 1


def test_the_form_is_what_the_prompt_says_and_half_a_lane_is_none():
    writer = Writer(10)
    assert [writer.prompt(form)[1] - 10 for form in FORMS] == [MARKS.index(form.name) for form in FORMS]
    form = Anchor(2)
    one = [1, 2, 3, 4, writer.mark("lane")]
    assert len(writer.read(form, [*one, 5, 5, writer.mark("lane"), *one, 7])) == 2
    np.testing.assert_allclose(writer.read(form, one)[0], np.array([[1, 2], [3, 4]]) / 9)


def test_what_lanes_have_in_common_by_hand():
    """Upright lanes 0.1 wide: beside each other by half their width they share a third; of half the height a half."""
    whole = np.array([[0.5, 0.0], [0.5, 1.0]])
    assert line_iou(whole, whole) == pytest.approx(1)
    assert line_iou(whole, whole + [0.05, 0]) == pytest.approx(1 / 3)
    assert line_iou(whole, whole + [0.2, 0]) == 0
    assert line_iou(whole, np.array([[0.5, 0.5], [0.5, 1.0]])) == pytest.approx(0.5)
    assert f1([[whole, whole + 0.2]], [[whole]]) == pytest.approx(2 / 3)
    assert f1([[whole, whole]], [[whole]]) == pytest.approx(2 / 3)
    assert reward([], []) == 0
    assert reward([whole + [0.05, 0]], [whole]) == pytest.approx(1 / 3)
    assert reward([whole], [whole]) == pytest.approx(2)


def test_roads_are_functions_of_their_seeds_and_lanes_are_where_they_are_painted():
    for seed in range(8):
        road, again = render_road(seed), render_road(seed)
        assert np.array_equal(road.picture, again.picture)
        grey = road.picture.mean(-1)
        brightest = [
            grey[min(63, int(y * 64)), min(63, int(x * 64))] for lane in road.lanes for x, y in lane[POINTS // 2 :]
        ]
        assert np.median(brightest) > grey[40:].mean() + 40
        assert (np.diff([lane[-1, 0] for lane in road.lanes]) > 0).all()


def test_the_prompt_counts_for_nothing():
    """The loss of a batch in which no given token has a label is that of the others alone."""
    model = model_of(tiny("lane2seq"))
    tokens = torch.tensor([[14, 17, 3, 5, 16, 15]])
    labels = tokens[:, 1:].clone()
    labels[:, 0] = -100
    batch = {"inputs": torch.randn(1, 3, 16, 16), "target": tokens[:, :-1], "labels": labels}
    loss = SequenceToSequence()(model, batch)
    odds = model(batch["inputs"], batch["target"]).log_softmax(-1)[0]
    assert loss.count == 4
    close(loss.total, -sum(odds[n, tokens[0, n + 1]] for n in range(1, 5)), "loss")


def test_the_mean_gradient_of_drawn_sequences_is_that_of_the_expected_reward():
    """All sequences of three tokens of three kinds, each with all others for its baseline, by their odds."""
    torch.manual_seed(0)

    class Few(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 3, dtype=torch.double))

        def forward(self, target):
            return self.table[target]

    model = Few()
    every = torch.tensor([*product(range(3), repeat=3)])
    rewards = torch.randn(27, dtype=torch.double)
    begin = torch.full((27, 1), 3)
    batch = {"target": torch.cat((begin, every[:, :-1]), 1), "labels": every}
    odds = model(batch["target"]).log_softmax(-1).gather(2, every[..., None])[..., 0].sum(1).exp()
    (wanted,) = torch.autograd.grad((odds * rewards).sum(), [model.table], retain_graph=True)
    share = odds.detach()
    gains = rewards - share @ rewards  # the mean over the second draw
    # `PolicyGradient` works in single precision
    (found,) = torch.autograd.grad(PolicyGradient()(model, {**batch, "gains": share * gains}).total, [model.table])
    close(-found, wanted, "gradient")
    assert wanted.abs().max() > 0.05


def test_the_decoder_is_torchs():
    """Answers and gradients, weights copied; and pictures of another size are read."""
    model = model_of(tiny("lane2seq", picture_width=32, depth=2))
    theirs = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True), 2, nn.LayerNorm(32)
    ).eval()
    pairs = []
    for block, layer in zip(model.decoder.blocks, theirs.layers, strict=True):
        cross = block.cross[0]
        pairs += [
            (layer.self_attn.in_proj_weight, [block.mixer.qkv.weight]),
            (layer.self_attn.in_proj_bias, [block.mixer.qkv.bias]),
        ]
        pairs.append((layer.multihead_attn.in_proj_weight, [cross.query.weight, cross.key_value.weight]))
        pairs.append((layer.multihead_attn.in_proj_bias, [cross.query.bias, cross.key_value.bias]))
        for mine, other in (
            (block.mixer.output, layer.self_attn.out_proj), (cross.output, layer.multihead_attn.out_proj),
            (block.feedforward.up, layer.linear1), (block.feedforward.down, layer.linear2),
            *((block.residual[k].norm, getattr(layer, f"norm{k + 1}")) for k in range(3)),
        ):  # fmt: skip
            pairs += [(other.weight, [mine.weight]), (other.bias, [mine.bias])]
    pairs += [(theirs.norm.weight, [model.decoder.norm.weight]), (theirs.norm.bias, [model.decoder.norm.bias])]
    with torch.no_grad():
        for other, mine in pairs:
            other.copy_(torch.cat(mine))
    inputs, target = torch.randn(2, 3, 24, 16), torch.randint(0, 20, (2, 7))
    memory = model.prepare(inputs).memory["encoder"].values
    table = model.target(target).values
    values = theirs(table, memory, tgt_mask=nn.Transformer.generate_square_subsequent_mask(7))
    expected, answer = model.head.project(values), model(inputs, target)
    same_answers(answer, expected)
    weights = torch.randn(answer.shape, generator=torch.Generator().manual_seed(0))
    ours = torch.autograd.grad((answer * weights).sum(), [each for _, mine in pairs for each in mine])
    others = torch.autograd.grad((expected * weights).sum(), [other for other, _ in pairs])
    joined = iter(ours)
    for (_, mine), other in zip(pairs, others, strict=True):
        close(torch.cat([next(joined) for _ in mine]), other, "gradient")


def test_it_writes_lanes_in_the_format_it_is_asked_for():
    model, writer = model_of(tiny("lane2seq")), Writer(14)
    inputs = torch.randn(2, 3, 16, 16)
    for form in FORMS:
        options = {"bos": writer.prompt(form), "eos": writer.mark("end"), "pad": 0, "max_tokens": 10}
        found = generate(model, inputs, **options)
        said = model(inputs, torch.tensor([writer.prompt(form)] * 2))[:, -1].argmax(-1)
        assert [row[0] if row else writer.mark("end") for row in found] == said.tolist()
