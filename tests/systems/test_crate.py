"""`crate`: against a run of the authors' code, and the optimisation that its block is a step of."""

import pytest
import torch
from sklearn.linear_model import Lasso

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop.weights import Pair, layer
from everyformer.tokens import Tokens
from support.agreement import recorded
from support.parts import close, tokens


def table(depth):
    pairs = [Pair("embedding.first", ("cls",)), Pair("embedding.positions.table", ("positions",))]
    for k in (0, 1):
        pairs += layer(f"embedding.patch_norm.{k}", f"patch_norm.{k}")
    pairs += layer("embedding.project", "project")
    for i in range(depth):
        ours, theirs = f"backbone.blocks.{i}", f"transformer.layers.{i}"
        pairs += layer(f"{ours}.residual.0.norm", f"{theirs}.0.norm") + layer(
            f"{ours}.residual.1.norm", f"{theirs}.1.norm"
        )
        pairs += layer(f"{ours}.mixer.subspace", f"{theirs}.0.fn.qkv", bias=False)
        pairs += layer(f"{ours}.mixer.output", f"{theirs}.0.fn.to_out.0")
        pairs.append(Pair(f"{ours}.feedforward.dictionary", (f"{theirs}.1.fn.weight",)))
    return pairs + layer("head.norm", "mlp_head.0") + layer("head.classify", "mlp_head.1")


def test_equals_the_authors_code():
    ours = ef.create("crate", classes=5, image=12, patch=4, channels=2, width=16, depth=2, heads=2)
    recorded("crate", ours, table(2))


@pytest.mark.parametrize(("size", "millions"), [("tiny", 6.09), ("small", 13.12), ("base", 22.80), ("large", 77.64)])
def test_sizes_are_the_published_ones(size, millions):
    assert parameters(on_meta(ef.design("crate", size))) / 1e6 == pytest.approx(millions, rel=0.01)


def test_attention_in_a_subspace_is_attention_with_one_weight_for_all_three():
    ours, plain = ef.mixers.SubspaceAttention(32, heads=4), ef.mixers.Attention(32, heads=4)
    with torch.no_grad():
        plain.qkv.weight.copy_(ours.subspace.weight.repeat(3, 1))
        plain.qkv.bias.zero_()
    plain.output.load_state_dict(ours.output.state_dict())
    close(ours(tokens()), plain(tokens()))


def test_the_coding_rate_falls_along_attention_in_a_subspace():
    """Equations 8 and 10: -grad of R_c is p/(N e^2) sum_k U_k U_k^T Z (I + p/(N e^2) (U_k^T Z)^T U_k^T Z)^-1."""
    torch.manual_seed(0)
    z = torch.randn(8, 5, dtype=torch.double, requires_grad=True)
    u = torch.linalg.qr(torch.randn(8, 8, dtype=torch.double))[0].view(8, 2, 4).unbind(1)
    share = 4 / (5 * 0.5**2)
    identity = torch.eye(5, dtype=torch.double)
    rate = sum(0.5 * torch.logdet(identity + share * (each.T @ z).T @ (each.T @ z)) for each in u)
    (found,) = torch.autograd.grad(rate, z)
    wanted = sum(
        share * each @ each.T @ z @ torch.linalg.inv(identity + share * (each.T @ z).T @ (each.T @ z)) for each in u
    )
    close(found, wanted, 1e-10)


def test_a_step_of_sparse_coding_is_equation_17_element_by_element():
    part = ef.feedforward.SparseCoding(4, step=0.2, threshold=0.3)
    x, d = torch.randn(1, 2, 4), part.dictionary
    for n in range(2):
        left = [x[0, n, i] - sum(d[i, j] * x[0, n, j] for j in range(4)) for i in range(4)]
        for i in range(4):
            pulled = x[0, n, i] + 0.2 * sum(d[j, i] * left[j] for j in range(4)) - 0.2 * 0.3
            close(part(Tokens(x))[0, n, i], pulled.clamp(min=0))


def test_repeated_it_converges_to_the_positive_lasso():
    """From x = 0 with the target held, steps of equation 17's iteration reach what scikit-learn finds."""
    torch.manual_seed(0)
    part = ef.feedforward.SparseCoding(6, step=0.05, threshold=0.1).double()
    y, code = torch.randn(6, dtype=torch.double), torch.zeros(6, dtype=torch.double)
    d = part.dictionary.detach()
    for _ in range(4000):
        code = torch.relu(code + part.step * (d.T @ (y - d @ code) - part.threshold))
    wanted = Lasso(alpha=0.1 / 6, positive=True, fit_intercept=False, max_iter=100000, tol=1e-12).fit(
        d.numpy(), y.numpy()
    )
    close(code, torch.from_numpy(wanted.coef_), 1e-6)
    given = y.clamp(min=0)
    one = torch.relu(given + part.step * (d.T @ (given - d @ given) - part.threshold))
    close(part(Tokens(given[None, None]))[0, 0], one, 1e-12)
