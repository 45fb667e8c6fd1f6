"""FOD against the official code's steps written out, its two backward passes included."""

import math

import pytest
import torch
import torch.nn.functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.grids import as_tokens
from everyformer.mixers.correlation import divergence
from support.agreement import close
from support.systems import model_of, tiny

SHARE = 0.5


def correlated(mixer, x, memory, grid):
    """What is taken, the weights and the normalised target, each (B, H, N, N), of one branch."""
    heads = mixer.heads

    def split(y):
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)

    weight, bias = mixer.key_value.weight.chunk(2), mixer.key_value.bias.chunk(2)
    query = split(mixer.query(x))
    key, value = (split(F.linear(memory, *each)) for each in zip(weight, bias, strict=True))
    attention = torch.einsum("bhnk,bhmk->bhnm", query, key.expand(len(x), -1, -1, -1))
    attention = (attention / math.sqrt(query.shape[-1])).softmax(-1)
    sigma = 3 ** (torch.sigmoid(mixer.spread(x) * 5) + 1e-5) - 1
    sigma = sigma.view(*x.shape[:2], heads, 2).transpose(1, 2)
    rows = torch.arange(grid[0]).repeat_interleave(grid[1])
    columns = torch.arange(grid[1]).repeat(grid[0])
    dy, dx = ((each[:, None] - each).square() for each in (rows, columns))
    first, second = sigma[..., :1], sigma[..., 1:]
    target = torch.exp(-dy / (2 * first**2) - dx / (2 * second**2)) / (2 * math.pi * first * second)
    taken = torch.einsum("bhnm,bhmk->bhnk", attention, value.expand(len(x), -1, -1, -1))
    return taken.transpose(1, 2).flatten(2), attention, target / target.sum(-1, keepdim=True)


def kl(p, q):
    return (p * (torch.log(p + 1e-4) - torch.log(q + 1e-4))).sum(-1).mean(1)


def one_level(head, cells):
    """The errors of the cells, and the weights and targets of both branches of each layer."""
    cells = F.avg_pool2d(cells, 3, 1, 1)
    given, usual = as_tokens(cells), as_tokens(head.normal)
    x = head.enter(given.values) + head.positions.add(given.update(head.enter(given.values)))
    memory = head.enter_normal(usual.values) + head.positions.add(given.update(x))
    layers = []
    for block in head.body.blocks:
        own, *intra = correlated(block.mixer.first, x, x, given.grid)
        others, *inter = correlated(block.mixer.second, x, memory, given.grid)
        layers.append((intra, inter))
        y = block.residual[0].norm((x + own) - (x + others))
        x = block.residual[1].norm(y + block.feedforward(given.update(y)))
    rebuilt = head.leave(head.body.norm(x))
    error = ((given.values - rebuilt) ** 2).mean(-1) + 1 - F.cosine_similarity(rebuilt, given.values, dim=-1)
    return error, layers


def two_losses(error, layers):
    """That which moves the targets, and that which moves the attention."""
    totals = [error.mean(), error.mean()]
    for of, sign in ((0, 1), (1, -1)):
        for each in layers:
            weights, target = each[of]
            share = SHARE * sign / len(layers)
            still, held = weights.detach(), target.detach()
            totals[0] = totals[0] + share * (kl(target, still) + kl(still, target)).mean()
            totals[1] = totals[1] - share * (kl(held, weights) + kl(weights, held)).mean()
            totals[1] = totals[1] + share * (weights * torch.log(weights + 1e-4)).sum(-1).mean()
    return totals


def trained_once():
    """A small model that has seen a batch, a batch, and what the body makes of it."""
    model = model_of(tiny("fod-anomaly")).train()
    generator = torch.Generator().manual_seed(2)
    model(torch.randn(4, 3, 32, 32, generator=generator))
    pictures = torch.randn(2, 3, 32, 32, generator=generator)
    maps = [each.values.mT.unflatten(2, each.grid) for each in model.stages(pictures).values()]
    return model.eval(), pictures, maps


def test_scores_are_those_of_the_official_steps():
    model, pictures, maps = trained_once()
    wanted = 0
    for head, cells in zip(model.head.heads, maps, strict=True):
        error, layers = one_level(head, cells)
        off = sum(kl(s, t) + kl(t, s) for _, (s, t) in layers) / len(layers)
        normal = torch.softmax(-off, -1)
        for row in range(2):
            normal[row] = normal[row].max() - normal[row]
        scores = (error * normal).view(2, 1, *cells.shape[2:])
        wanted = wanted + F.interpolate(scores, (32, 32), mode="bilinear", align_corners=True) / 2
    close(model(pictures), wanted)


def test_one_loss_has_half_the_gradient_of_the_two():
    model, pictures, maps = trained_once()
    loss = ef.objectives.Rebuilding()(model, {"inputs": pictures})
    (loss.total / loss.count).backward()
    found = {name: each.grad.clone() for name, each in model.head.named_parameters()}
    model.zero_grad()
    for head, cells in zip(model.head.heads, maps, strict=True):
        first, second = two_losses(*one_level(head, cells))
        first.backward(retain_graph=True)
        second.backward()
    for name, each in model.head.named_parameters():
        close(found[name], each.grad / 2, name)
    assert all(each.grad is None for name, each in model.named_parameters() if not name.startswith("head."))


def test_a_target_is_as_wide_as_its_spread():
    """A mean of the whole grid is never reached: the spread is below 2 cells; it goes down to the cell itself."""
    mixer = ef.mixers.Correlation(8, heads=2)
    tokens = as_tokens(torch.randn(1, 8, 3, 4))
    torch.nn.init.zeros_(mixer.spread.weight)
    torch.nn.init.constant_(mixer.spread.bias, -9)
    close(mixer.target(tokens, tokens, None), torch.eye(12).expand(1, 2, 12, 12))
    torch.nn.init.constant_(mixer.spread.bias, 9)
    wide = mixer.target(tokens, tokens, None)
    close(wide.sum(-1), torch.ones(1, 2, 12))
    close(wide[..., 0, 1] / wide[..., 0, 0], torch.full((1, 2), math.exp(-1 / 8)), "two cells wide")
    close(divergence(wide, wide), torch.zeros(1, 12))


def test_what_is_usual_is_the_mean_of_all_that_was_seen():
    model = model_of(tiny("fod-anomaly")).train()
    batches = torch.randn(5, 3, 32, 32).split((2, 3))
    with torch.no_grad():
        for each in batches:
            model(each)
        first = next(iter(model.stages(torch.cat(batches)).values()))
    cells = F.avg_pool2d(first.values.mT.unflatten(2, first.grid), 3, 1, 1)
    close(model.head.heads[0].normal, cells.mean(0, keepdim=True))
    kept = model.head.heads[0].normal.clone()
    model.eval()(torch.randn(1, 3, 32, 32))
    assert torch.equal(kept, model.head.heads[0].normal)


def test_the_body_stays_as_it_is():
    model = tiny("fod-anomaly").build(seed=0).train()
    before = {name: each.clone() for name, each in model.backbone.state_dict().items()}
    model(torch.randn(2, 3, 32, 32))
    assert [each.training for each in (model.embedding, model.backbone, model.head)] == [False, False, True]
    assert all(torch.equal(each, before[name]) for name, each in model.backbone.state_dict().items())


def test_the_body_is_a_wide_resnet():
    """68,883,240 parameters in all, of which 2,049,000 classify."""
    model = on_meta(ef.design("fod-anomaly", convs=(3, 4, 6, 3)))
    assert parameters(model.embedding) + parameters(model.backbone) == 68_883_240 - 2_049_000


def test_what_does_not_fit_is_said():
    with pytest.raises(ef.DoesNotFit, match="notes no error; use heads.Rebuilt"):
        ef.objectives.Rebuilding()(tiny("segmenter").build(), {"inputs": torch.zeros(1, 3, 16, 16)})
    with pytest.raises(ef.BadInput, match="reads the memory 'normal', and the context holds none"):
        ef.mixers.CrossCorrelation(8, heads=2, memory="normal")(as_tokens(torch.zeros(1, 8, 2, 2)), Context())
    with pytest.raises(ValueError, match="width 9 is not a multiple of heads 2"):
        ef.mixers.Correlation(9, heads=2)
    with pytest.raises(ValueError, match="2 levels and 1 heads"):
        ef.heads.MeanOfLevels((8, 8), heads=(ef.spec(ef.heads.LinearDecoder, classes=1),))
