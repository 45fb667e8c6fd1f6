"""Mixers by pooling, by tables, by comparison, by fixed points and by several keys, written out and at their limits."""

import math

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.masks import Causal, Full
from everyformer.mixers import (
    Attention,
    CausalComparison,
    EluFeatures,
    FixedPointAttention,
    GatedAttention,
    MixtureKeys,
    PoNet,
    PositiveFeatures,
    SubsampledAttention,
    ToeplitzAttention,
    TokenMatrix,
)
from everyformer.mixers.toeplitz import toeplitz
from everyformer.tokens import Tokens
from support.agreement import close, perturb, same_as_function

D, H, N = 16, 2, 9
K = D // H
CAUSAL = Context(mask=Causal())


class Called(torch.nn.Module):
    """A mixer as a function of values."""

    def __init__(self, mixer, mask=Full()):  # noqa: B008
        super().__init__()
        self.mixer, self.mask = perturb(mixer, std=0.2), mask

    def forward(self, values):
        return self.mixer(Tokens(values), Context(mask=self.mask))


def over(batch, function):
    return torch.stack([function(x) for x in batch])


def linear(p, name, x):
    return x @ p[f"mixer.{name}.weight"].T + p[f"mixer.{name}.bias"]


def test_ponet_equals_its_equations():
    def one(p, x):
        query, key, fused, segment, local = linear(p, "project", x).split(D, -1)
        size, rows = len(x) // 3 + 1, []
        for i in range(len(x)):
            whole = []
            for h in range(H):
                part = slice(h * K, (h + 1) * K)
                weights = (key[:, part] @ query[:, part].mean(0) / math.sqrt(K)).softmax(0)
                whole.append(weights @ key[:, part])
            mine = segment[i // size * size : (i // size + 1) * size].amax(0)
            near = local[max(i - 1, 0) : i + 2].amax(0)
            rows.append((torch.cat(whole) + mine) * fused[i] + near)
        return linear(p, "output", torch.stack(rows))

    made = Called(PoNet(D, heads=H, segments=3))
    same_as_function(made, lambda p, values: over(values, lambda x: one(p, x)), torch.randn(2, N, D))


def test_ponet_of_one_segment_and_no_neighbours():
    """(g + max S) * O + M; tokens of a segment change places without changing its maximum."""
    made = perturb(PoNet(D, heads=H, segments=1, window=1), std=0.2)
    x = torch.randn(1, N, D)
    close(made(Tokens(x.flip(1))), made(Tokens(x)).flip(1))
    with pytest.raises(ef.DoesNotFit, match="odd; given 4"):
        ef.spec(PoNet, window=4).build(D)


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
def test_token_matrix_equals_the_sum(mask):
    def literal(p, values):
        rows = [
            sum(p["mixer.weight"][t, s] * values[:, s] for s in range(N) if s <= t or mask == Full())
            + p["mixer.bias"][t]
            for t in range(N)
        ]
        return torch.stack(rows, 1)

    same_as_function(Called(TokenMatrix(D, length=N), mask), literal, torch.randn(2, N, D))


def test_token_matrix_can_be_the_running_mean():
    made = TokenMatrix(D, length=N, bias=False)
    with torch.no_grad():
        made.weight.copy_((1 / torch.arange(1.0, N + 1))[:, None].expand(N, N))
    x = torch.randn(2, N, D)
    close(made(Tokens(x), CAUSAL), torch.stack([x[:, : t + 1].mean(1) for t in range(N)], 1))
    made.weight.grad = None
    made(Tokens(x), CAUSAL).square().sum().backward()
    assert (made.weight.grad.triu(1) == 0).all()
    with pytest.raises(ef.BadInput, match="10 tokens, and TokenMatrix was built for 9"):
        made(Tokens(torch.randn(1, N + 1, D)))


@pytest.mark.parametrize("average", [False, True])
def test_comparison_is_the_larger_of_two_and_the_mean(average):
    x = torch.randn(2, N, D)
    wanted = []
    for t in range(N):
        before = x[:, t - 1] if t else torch.zeros(2, D)
        wanted.append(torch.maximum(x[:, t], before) + (x[:, : t + 1].mean(1) if average else 0))
    close(CausalComparison(D, average=average)(Tokens(x), CAUSAL), torch.stack(wanted, 1))


@pytest.mark.parametrize(("average", "reach"), [(False, 4), (True, N)])
def test_layers_of_comparison_see_one_token_further_each(average, reach):
    """Without the mean depth L sees L + 1 tokens; with it all."""
    layers = [CausalComparison(D, average=average) for _ in range(3)]
    x = torch.randn(1, N, D)
    last = []
    for s in range(N):
        y = x.clone()
        y[:, s] += 10
        for layer in layers:
            y = y + layer(Tokens(y), CAUSAL)
        last.append(y[0, -1])
    z = x
    for layer in layers:
        z = z + layer(Tokens(z), CAUSAL)
    assert sum(bool((each != z[0, -1]).any()) for each in last) == reach


def test_one_iteration_is_attention():
    made, plain = FixedPointAttention(D, heads=H, iterations=1), Attention(D, heads=H)
    plain.load_state_dict(made.state_dict())
    x = Tokens(torch.randn(2, N, D))
    close(made(x, CAUSAL), plain(x, CAUSAL))


def fixed(made, x, steps):
    """The iteration written out, and its answer."""
    query, key, value = (
        t.unflatten(-1, (H, K)).transpose(1, 2) for t in (x @ made.qkv.weight.T + made.qkv.bias).split(D, -1)
    )
    z = query
    for _ in range(steps):
        z = (z @ key.mT / math.sqrt(K)).softmax(-1) @ value
    return z, key, value


def test_a_fixed_point_stays_and_is_reached_alone_as_in_company():
    torch.manual_seed(0)
    made = perturb(FixedPointAttention(D, heads=H, iterations=60, tolerance=1e-6), std=0.1)
    x = torch.randn(3, N, D)
    z, key, value = fixed(made, x, 200)
    close((z @ key.mT / math.sqrt(K)).softmax(-1) @ value, z)
    answer = made(Tokens(x))
    close(answer, made.output(z.transpose(1, 2).flatten(2)))
    made.tolerance = 0.05
    together = made(Tokens(x))
    close(torch.cat([made(Tokens(x[i : i + 1])) for i in range(3)]), together)


def test_the_gradient_is_that_of_the_last_application():
    torch.manual_seed(0)
    made = perturb(FixedPointAttention(D, heads=H, iterations=30, tolerance=1e-7), std=0.1)
    x = torch.randn(2, N, D)
    weights = torch.randn(2, N, D)
    (made(Tokens(x)) * weights).sum().backward()
    found = made.qkv.weight.grad[D:].clone()
    made.qkv.weight.grad = None
    z, *_ = fixed(made, x, 29)
    _, key, value = fixed(made, x, 0)
    last = (z.detach() @ key.mT / math.sqrt(K)).softmax(-1) @ value
    (made.output(last.transpose(1, 2).flatten(2)) * weights).sum().backward()
    close(found, made.qkv.weight.grad[D:])


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
@pytest.mark.parametrize("components", [1, 2, 3])
def test_mixtures_of_keys_equal_the_posterior(components, mask):
    """Equation 8: sums of Gaussians over the components, normalised over the positions."""

    def one(p, x):
        query, key, value = linear(p, "qkv", x).split(D, -1)
        shares, rows = p["mixer.shares"].softmax(0), []
        for i in range(N):
            heads = []
            for h in range(H):
                part = slice(h * K, (h + 1) * K)
                weights = []
                for j in range(N if mask == Full() else i + 1):
                    each = [key[j, part], *(key[j, part] - s for s in p["mixer.shifts"][:, h, 0])]
                    far = [(query[i, part] - k).square().sum() / (2 * math.sqrt(K)) for k in each]
                    weights.append(sum(shares[r, h] * (-d).exp() for r, d in enumerate(far)))
                weights = torch.stack(weights) / sum(weights)
                heads.append(weights @ value[: len(weights), part])
            rows.append(torch.cat(heads))
        return linear(p, "output", torch.stack(rows))

    made = Called(MixtureKeys(D, heads=H, components=components), mask)
    if components == 1:
        made.mixer.shares.requires_grad_(False)
        x = torch.randn(2, N, D)
        return close(made(x), over(x, lambda y: one(dict(made.named_parameters()), y)))
    same_as_function(made, lambda p, values: over(values, lambda x: one(p, x)), torch.randn(2, N, D))


def test_one_key_of_equal_lengths_is_attention():
    """The lengths of keys are all that tells Gaussians from products."""
    made, plain = MixtureKeys(D, heads=H, components=1), Attention(D, heads=H)
    plain.load_state_dict({name: t for name, t in made.state_dict().items() if name not in ("shifts", "shares")})
    x = torch.randn(1, 2, D)
    with torch.no_grad():
        for module in (made, plain):
            module.qkv.bias.zero_()
    x = torch.cat((x, -x), 1)[:, [0, 2]]
    close(made(Tokens(x)), plain(Tokens(x)))


@pytest.mark.parametrize("causal", [False, True])
def test_relative_kernel_attention_equals_the_quadratic_form(causal):
    torch.manual_seed(0)
    made = ToeplitzAttention(D, heads=H, length=12, features=ef.spec(EluFeatures))
    mask = Causal() if causal else Full()

    def one(p, x):
        query, key, value = linear(p, "qkv", x).split(D, -1)
        rows = []
        for i in range(N):
            heads = []
            for h in range(H):
                part = slice(h * K, (h + 1) * K)
                q, k = (F.elu(F.normalize(t[:, part], dim=-1) * K**0.25) + 1 for t in (query, key))
                seen = range(i + 1 if causal else N)
                weights = torch.stack([p["mixer.distances"][h, 11 + j - i].exp() * (q[i] @ k[j]) for j in seen])
                heads.append(weights @ value[: len(weights), part] / weights.sum())
            rows.append(torch.cat(heads))
        return linear(p, "output", torch.stack(rows))

    same_as_function(
        Called(made, mask), lambda p, values: over(values, lambda x: one(p, x)), torch.randn(2, N, D)
    )  # fmt: skip


def test_transforms_apply_a_toeplitz_matrix():
    weights, x = torch.rand(H, 2 * N - 1, dtype=torch.float64), torch.randn(2, H, N, 3, dtype=torch.float64)
    matrix = torch.stack([torch.stack([weights[:, N - 1 + j - i] for j in range(N)], -1) for i in range(N)], -2)
    assert (toeplitz(weights, x) - matrix @ x).abs().max() <= 1e-12


def test_relative_kernel_attention_tends_to_biased_softmax():
    """With many features: softmax of the products of unit vectors and the biases."""
    torch.manual_seed(0)
    made = ToeplitzAttention(D, heads=H, length=N, features=ef.spec(PositiveFeatures, features=20000))
    with torch.no_grad():
        made.distances.normal_()
    x = torch.randn(1, N, D)
    query, key, value = (t.unflatten(-1, (H, K)).transpose(1, 2) for t in made.qkv(x).split(D, -1))
    place = torch.arange(N)
    bias = made.distances[:, N - 1 + place[None] - place[:, None]]
    weights = (F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT + bias).softmax(-1)
    wanted = made.output((weights @ value).transpose(1, 2).flatten(2))
    assert (made(Tokens(x)) - wanted).abs().max() <= 0.02
    with pytest.raises(ef.BadInput, match="10 tokens, and ToeplitzAttention was built for 9"):
        made(Tokens(torch.randn(1, N + 1, D)))


def test_a_gate_wide_open_is_attention_and_a_shut_one_nothing():
    made, plain = GatedAttention(D, heads=H), Attention(D, heads=H)
    plain.load_state_dict({name: t for name, t in made.state_dict().items() if not name.startswith("gate")})
    x = Tokens(torch.randn(2, N, D))
    with torch.no_grad():
        made.gate_bias.fill_(40.0)
        close(made(x), plain(x))
        made.gate_bias.fill_(-40.0)
        close(made(x), made.output.bias.expand(2, N, D))
    with pytest.raises(ef.DoesNotFit, match="between 0 and 1; given 1"):
        ef.spec(GatedAttention, opening=1.0).build(D)


def test_a_gate_sees_the_slice_of_its_head():
    def one(p, x):
        query, key, value = linear(p, "qkv", x).split(D, -1)
        found = []
        for h in range(H):
            part = slice(h * K, (h + 1) * K)
            gate = 1 / (1 + (-(x[:, part] @ p["mixer.gate"][h] + p["mixer.gate_bias"][h])).exp())
            weights = (query[:, part] @ key[:, part].T / math.sqrt(K)).softmax(-1)
            found.append(gate[:, None] * (weights @ value[:, part]))
        return linear(p, "output", torch.cat(found, -1))

    made = Called(GatedAttention(D, heads=H))
    same_as_function(made, lambda p, values: over(values, lambda x: one(p, x)), torch.randn(2, N, D))


def test_relative_positions_cannot_tell_equal_tokens_apart_and_factors_can():
    """The paper's negative example (section 3)."""
    x = torch.randn(1, 1, D).expand(1, N, D)
    buckets = ef.spec(ef.positions.Buckets)
    plain = perturb(Attention(D, heads=H, positions=buckets), std=0.5)
    made = Attention(D, heads=H, positions=buckets, steps=(ef.spec(ef.scores.DistanceFactors, farthest=N),))
    made.load_state_dict({**made.state_dict(), **plain.state_dict()})
    close(made(Tokens(x)), plain(Tokens(x)))
    answer = plain(Tokens(x))
    assert (answer - answer[:, :1]).abs().max() <= 1e-5
    with torch.no_grad():
        made.steps[0].factors.weight.normal_()
    answer = made(Tokens(x))
    assert (answer - answer[:, :1]).abs().max() > 0.1


def test_factors_are_those_of_the_distance():
    step = ef.scores.DistanceFactors(H, K, farthest=2)
    with torch.no_grad():
        step.factors.weight.copy_(torch.arange(10.0).view(2, 5))
    found = step.weights(torch.ones(1, H, 3, 5), None)
    for i in range(3):
        for j in range(5):
            distance = min(max(i + 2 - j, -2), 2)
            assert found[0, :, i, j].tolist() == [distance + 2, distance + 7]


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
def test_subsampled_attention_is_attention_without_the_other_columns(mask):
    torch.manual_seed(0)
    made, plain = SubsampledAttention(D, heads=H, share=0.34), Attention(D, heads=H)
    plain.load_state_dict(made.state_dict())
    x = torch.randn(2, N, D)
    close(made.eval()(Tokens(x), Context(mask=mask)), plain(Tokens(x), Context(mask=mask)))
    drawn = torch.Generator().manual_seed(3)
    answer = made.train()(Tokens(x), Context(mask=mask, generator=drawn))
    chosen = torch.rand(N, generator=torch.Generator().manual_seed(3)).topk(3).indices
    query, key, value = (t.unflatten(-1, (H, K)).transpose(1, 2) for t in made.qkv(x).split(D, -1))
    allowed = torch.zeros(N, N, dtype=torch.bool)
    allowed[:, chosen] = True
    allowed = allowed.tril() if mask == Causal() else allowed
    scores = (query @ key.mT / math.sqrt(K)).masked_fill(~allowed, -1e9).softmax(-1) * allowed
    close(answer, made.output((scores @ value).transpose(1, 2).flatten(2)))


def test_a_share_of_more_than_all_is_refused():
    with pytest.raises(ef.DoesNotFit, match="at most 1; given 2"):
        ef.spec(SubsampledAttention, share=2.0).build(D)
