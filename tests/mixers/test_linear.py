"""Linear attention and its feature maps against their equations and limits."""

import math

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.masks import Causal, Full
from everyformer.mixers import (
    CosineFeatures,
    FastfoodDirections,
    FourierFeatures,
    GeneratedDirections,
    IndependentDirections,
    LinearAttention,
    MixtureDirections,
    OrthogonalDirections,
    PositiveFeatures,
)
from everyformer.tokens import Tokens
from support.agreement import close, perturb, same_as_function

WIDTH, HEADS, COUNT = 16, 2, 23
FEATURES = {
    "EluFeatures": lambda x, i: torch.where(x > 0, x + 1, x.exp()),
    "ReluFeatures": lambda x, i: x.clamp(min=0),
    "CosineFeatures": lambda x, i: torch.cat((x.clamp(min=0) * math.cos(math.pi * i / 128), x.clamp(min=0) * math.sin(math.pi * i / 128))),
}  # fmt: skip


def mixer(features, **options):
    made = ef.spec(ef.parts("mixers")[features], **options)
    return perturb(LinearAttention(WIDTH, heads=HEADS, features=made), std=0.3)


def literal(features, causal):
    """Equations 5 and 9, a query and a key at a time."""

    def function(p, values):
        rows = []
        for x in values:
            query, key, value = (x @ p["qkv.weight"].T + p["qkv.bias"]).split(WIDTH, -1)
            out = []
            for i in range(len(x)):
                heads = []
                for h in range(HEADS):
                    part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
                    weights = torch.stack([
                        FEATURES[features](query[i, part], i) @ FEATURES[features](key[j, part], j)
                        for j in range(i + 1 if causal else len(x))
                    ])  # fmt: skip
                    heads.append(weights @ value[: len(weights), part] / weights.sum())
                out.append(torch.cat(heads))
            rows.append(torch.stack(out))
        return torch.stack(rows) @ p["output.weight"].T + p["output.bias"]

    return function


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("features", FEATURES)
def test_equals_the_equation(features, causal):
    made = mixer(features, **({"length": 64} if features == "CosineFeatures" else {}))
    context = Context(mask=Causal() if causal else Full())

    class Called(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.output = made.qkv, made.output

        def forward(self, values):
            return made(Tokens(values), context)

    same_as_function(Called(), literal(features, causal), torch.randn(2, 7, WIDTH))


@pytest.mark.parametrize(
    "features", ["EluFeatures", "ReluFeatures", "CosineFeatures", "PositiveFeatures", "FourierFeatures"]
)
def test_parallel_chunked_and_recurrent_are_equal(features):
    """The quadratic form, chunks of 64 and the recurrence with a cache."""
    made = mixer(features)
    whole = Tokens(torch.randn(2, 150, WIDTH))
    context = Context(mask=Causal())
    chunked = made(whole, context)
    query, key, value = (
        x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in made.qkv(whole.values).chunk(3, -1)
    )  # fmt: skip
    places = torch.arange(150)[None, :, None]
    query, key = made.features(query, key, places)
    weights = (query @ key.mT).tril()
    total = weights.sum(-1, keepdim=True)
    parallel = made.output((weights / torch.where(total == 0, 1, total) @ value).transpose(1, 2).flatten(2))
    state = Context(mask=Causal(), cache=Cache())
    steps = []
    for t in range(150):
        piece = Tokens(whole.values[:, t : t + 1], positions=torch.tensor([[[t]]]))
        steps.append(made(piece, state))
        state.cache.advance(piece)
    scale = parallel.abs().max().item()
    close(chunked / scale, parallel / scale)
    close(torch.cat(steps, 1) / scale, parallel / scale)


def estimate(features, kernel, orthogonal=True, seed=0):
    """The mean error of a random estimate of attention, over 8 draws."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(1, 1, 32, 8, generator=generator) * size for size in (0.7, 0.7, 1))
    weights = kernel(query, key)
    wanted = weights / weights.sum(-1, keepdim=True) @ value
    errors = []
    for draw in range(8):
        torch.manual_seed(draw)
        law = OrthogonalDirections if orthogonal else IndependentDirections
        made = (PositiveFeatures if kernel is softmax else FourierFeatures)(
            8, features=features, directions=ef.spec(law)
        )
        left, right = made(query, key, None)
        weights = left @ right.mT
        errors.append((weights / weights.sum(-1, keepdim=True) @ value - wanted).square().mean().sqrt())
    return torch.stack(errors).mean().item()


def softmax(query, key):
    return (query @ key.mT / math.sqrt(8)).exp()


def gaussian(query, key):
    return (-(query[..., :, None, :] - key[..., None, :, :]).square().sum(-1) / (2 * math.sqrt(8))).exp()


@pytest.mark.parametrize("kernel", [softmax, gaussian])
def test_random_features_converge_at_the_rate_of_their_number(kernel):
    """16 times the features, a quarter of the error."""
    few, many = estimate(512, kernel), estimate(8192, kernel)
    assert 2.5 < few / many < 6.5
    assert many < 0.03


def test_orthogonal_directions_are_orthogonal_and_err_less():
    for block in OrthogonalDirections(8, 16)().split(8):
        product = block @ block.T
        close(product, torch.diag(product.diagonal()))
    assert estimate(64, softmax) < estimate(64, softmax, orthogonal=False)


def test_redrawing_changes_the_directions_as_the_generator_says():
    made = OrthogonalDirections(8, 20)
    before = made().clone()
    made.redraw(torch.Generator().manual_seed(3))
    once = made().clone()
    made.redraw(torch.Generator().manual_seed(3))
    assert torch.equal(made(), once)
    assert not torch.equal(before, once)


def test_a_mixture_of_one_standard_gaussian_is_performers_law():
    made = MixtureDirections(8, 20, components=1)
    assert torch.equal(made(), made.noise)
    made = perturb(MixtureDirections(8, 20, components=3), std=0.5)
    for i, row in enumerate(made()):
        close(row, made.means[i % 3] + made.scales[i % 3].exp() * made.noise[i])


def test_fastfood_is_the_product_of_its_matrices():
    made = FastfoodDirections(6, 13)
    rows = []
    for block in range(2):
        h = torch.tensor([[(-1.0) ** bin(i & j).count("1") for j in range(8)] for i in range(8)])
        p = torch.eye(8)[made.order[block]]
        rows.append(made.lengths[block].diag() @ h @ made.normals[block].diag() @ p @ h @ made.signs[block].diag())
    close(made(), torch.cat(rows)[:13, :6] / 8**0.5)
    lengths = FastfoodDirections(8, 800)().norm(dim=-1)
    assert abs(lengths.square().mean() - 8) < 0.5


@pytest.mark.parametrize("law", [MixtureDirections, GeneratedDirections, FastfoodDirections])
def test_what_is_learned_has_its_derivative(law):
    torch.manual_seed(0)
    made = FourierFeatures(4, features=6, directions=ef.spec(law)).double()
    query, key = torch.randn(2, 1, 1, 5, 4, dtype=torch.float64)
    names = [name for name, _ in made.named_parameters()]

    def function(*values):
        left, right = torch.func.functional_call(made, dict(zip(names, values)), (query, key, None))
        return left @ right.mT

    assert torch.autograd.gradcheck(function, tuple(p.detach().requires_grad_() for p in made.parameters()))


def test_cosine_reweighting_is_the_cosine_of_the_distance():
    """Equation 9: the weight of equal queries and keys falls from 1 to 0 over `length`."""
    made = CosineFeatures(4, length=32)
    x = torch.ones(1, 1, 32, 4)
    features = made.map(x, torch.arange(32)[None, :, None])
    distance = torch.arange(32)[:, None] - torch.arange(32)
    close(features @ features.mT / 4, torch.cos(math.pi * distance / 64)[None, None])


def test_cosine_reweighting_refuses_what_is_longer():
    with pytest.raises(ef.BadInput, match="33 tokens, and CosineFeatures reweights 32"):
        CosineFeatures(4, length=32).map(torch.ones(1, 1, 33, 4), torch.arange(33)[None, :, None])


def test_a_query_whose_features_are_all_zero_takes_nothing():
    made = mixer("ReluFeatures")
    with torch.no_grad():
        made.qkv.weight.zero_()
        made.qkv.bias.fill_(-1.0)
    values = torch.randn(1, 5, WIDTH, requires_grad=True)
    answer = made(Tokens(values))
    close(answer, made.output.bias.expand_as(answer))
    answer.sum().backward()
    assert values.grad.isfinite().all()


def test_features_are_at_least_one():
    with pytest.raises(ef.DoesNotFit, match="at least 1; given 0"):
        ef.spec(PositiveFeatures, features=0).build(8, 2)


def test_the_state_of_a_cache_does_not_grow():
    made, state = mixer("EluFeatures"), Context(mask=Causal(), cache=Cache())
    sizes = []
    for count in (1, 5, 50):
        piece = Tokens(torch.randn(1, count, WIDTH))
        made(piece, state)
        state.cache.advance(piece)
        sizes.append(sum(x.numel() for kept in state.cache.states.values() for x in kept.values()))
    assert len(set(sizes)) == 1


def test_elu_is_the_published_function():
    x = torch.linspace(-3, 3, 13).view(1, 1, 13, 1)
    close(ef.mixers.EluFeatures(1).map(x, None), F.elu(x) + 1)
