"""Geometry, channels, sparse features, rollout: identities, and planted structure that must be found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit
from everyformer.interpret import SparseAutoencoder, channels, composition, geometry, heads_of, rollout, score_parts
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny

DRAWN = torch.Generator().manual_seed(0)


def test_geometry_is_a_two_way_analysis_of_variance():
    states = torch.randn(5, 7, 3, generator=DRAWN).double()
    found = geometry(states)
    close(found.mean + found.position + found.context[:, None] + found.rest, states)
    for part, axis in ((found.position, 0), (found.context, 0), (found.rest, 0), (found.rest, 1)):
        close(part.sum(axis), torch.zeros_like(part.sum(axis)))
    squares = 35 * found.mean.square().sum() + 5 * found.position.square().sum() + 7 * found.context.square().sum()
    assert float(squares + found.rest.square().sum()) == pytest.approx(float(states.square().sum()), rel=1e-6)
    columns = np.zeros((35, 1 + 5 + 7))
    columns[:, 0] = 1
    for c in range(5):
        for t in range(7):
            columns[7 * c + t, [1 + c, 6 + t]] = 1
    rows = states.view(35, 3).numpy()
    fitted = columns @ np.linalg.lstsq(columns, rows, rcond=None)[0]
    close(found.rest.reshape(35, 3), torch.from_numpy(rows - fitted))


def test_a_smooth_curve_of_few_directions_is_found_and_noise_is_not():
    angle = torch.arange(32) / 32 * 2
    curve = torch.stack((angle.cos(), angle.sin()), -1) @ torch.linalg.qr(torch.randn(16, 2, generator=DRAWN))[0].mT
    smooth = geometry(curve + 0.01 * torch.randn(8, 32, 16, generator=DRAWN))
    noise = geometry(torch.randn(8, 32, 16, generator=DRAWN))
    assert smooth.rank() == 2 < noise.rank()
    assert smooth.stable_rank() < 2.01 < noise.stable_rank()
    assert smooth.smoothness() > 0.99 > 0.6 > noise.smoothness()


def test_parts_of_scores_sum_to_the_scores():
    states, query, key = (torch.randn(*shape, generator=DRAWN) for shape in ((3, 6, 8), (8, 4), (8, 4)))
    found = geometry(states)
    centred = states - found.mean
    close(sum(score_parts(found, query, key).values()), (centred @ query) @ (centred @ key).mT, 1e-4)
    with pytest.raises(BadInput, match="at least 2 sequences"):
        geometry(states[:1])


def test_heads_are_the_maps_of_the_mixer():
    mixer = ef.mixers.Attention(12, heads=4, key_heads=2, bias=False)
    x = torch.randn(1, 5, 12)
    with ef.interpret.record(mixer, "scores", "weights") as seen:
        wanted = mixer(ef.Tokens(x))
    heads = heads_of(mixer)
    close(sum(seen["weights"][:, h] @ x @ head.ov for h, head in enumerate(heads)), wanted)
    for h, head in enumerate(heads):
        close(seen["scores"][:, h], x @ head.qk @ x.mT / 3**0.5)


@pytest.mark.parametrize("seed", range(10))
def test_a_planted_channel_ranks_first(seed):
    generator = torch.Generator().manual_seed(seed)
    writer, reader = (
        torch.randn(32, 4, generator=generator) @ torch.randn(4, 32, generator=generator) for _ in range(2)
    )
    line = torch.nn.functional.normalize(torch.randn(3, 32, generator=generator), dim=-1)
    writer = writer + 60 * line[0][:, None] * line[1]
    reader = reader + 60 * line[1][:, None] * line[2]
    found = channels(writer, reader)
    assert len(found.strength) == 5
    close(found.left * found.strength @ found.right, writer, 1e-3)
    assert int(found.score.argmax()) == 0
    assert found.score[0] > 2 * found.score[1:].max()
    squares = (found.strength.square() * found.score.square()).sum() / writer.square().sum()
    assert composition(writer, reader) == pytest.approx(float(squares.sqrt()), rel=1e-4)
    assert composition(found.without(0), reader) < composition(writer, reader) / 2


def test_channels_of_what_is_no_attention_are_refused():
    with pytest.raises(DoesNotFit, match="not from MLP"):
        heads_of(ef.feedforward.MLP(8))


def test_sparse_features_find_the_directions_that_values_are_made_of():
    generator = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=-1)
    fired = torch.zeros(4000, 24).scatter(1, torch.rand(4000, 24, generator=generator).topk(2).indices, 1.0)
    values = fired * (0.5 + torch.rand(4000, 24, generator=generator)) @ truth
    torch.manual_seed(0)
    made = SparseAutoencoder(16, features=32, active=2)
    assert made.fit(values, steps=1500, lr=3e-3) < 0.1
    assert ((made.encode(values) > 0).sum(-1) <= 2).all()
    near = (truth @ made.decode_map.weight).max(1).values
    assert (near > 0.9).double().mean() > 0.8


def test_rollout_is_the_product_of_the_layers():
    model = model_of(tiny("vit"))
    batch = example(model, 2)
    with ef.interpret.record(model, "**.weights") as seen:
        model(**batch)
    one, two = (each.mean(1) / 2 + torch.eye(17) / 2 for each in seen.values())
    found = rollout(model, **batch)
    close(found, two @ one)
    close(found.sum(-1), torch.ones(2, 17))
    with pytest.raises(DoesNotFit, match="same tokens in every layer"):
        rollout(
            model_of(tiny("transformer")),
            inputs=torch.ones(1, 3, dtype=torch.long),
            target=torch.ones(1, 4, dtype=torch.long),
        )
