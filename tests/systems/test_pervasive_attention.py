"""`pervasive-attention` against its equations, and what it may see."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.generation import Beam, generate
from support.agreement import perturb, same_as_function
from support.parity import ids
from support.parts import close


def tiny(**more):
    options = {"vocabulary": 19, "width": 12, "layers": 2, "growth": 4, "dropout": 0.0}
    return perturb(ef.create("pervasive-attention", seed=0, **{**options, **more}), std=0.2)


def written_out(kernel):
    """Section 3.1 to 3.3 with an ordinary convolution whose kernel is zero in the rows of later targets."""

    def answer(p, inputs, target):
        source, said = (
            12**0.5 * p[f"{side}.table.weight"][each] for side, each in (("source", inputs), ("target", target))
        )
        cells = torch.stack(
            [torch.stack([torch.cat((y, x), -1) for x in source.unbind(1)], -1) for y in said.unbind(1)], 2
        )

        def normed(x, name):
            return F.layer_norm(x.movedim(1, -1), x.shape[1:2], p[f"{name}.weight"], p[f"{name}.bias"]).movedim(-1, 1)

        for i in range(2):
            at = f"decoder.blocks.0.layers.{i}"
            hidden = F.conv2d(normed(cells, f"{at}.norms.0").relu(), p[f"{at}.narrow.weight"][..., None, None])
            hidden = normed(hidden, f"{at}.norms.1").relu()
            whole = F.pad(p[f"{at}.conv.weight"], (0, 0, 0, kernel // 2))
            cells = torch.cat((cells, F.conv2d(hidden, whole, padding=kernel // 2)), 1)
        cells = normed(cells, "decoder.blocks.0.norm").relu()
        h = cells.amax(3).mT @ p["decoder.blocks.0.project.weight"].T + p["decoder.blocks.0.project.bias"]
        return h @ p["target.table.weight"].T + p["head.project.bias"]

    return answer


@pytest.mark.parametrize("kernel", [3, 5])
def test_equals_its_equations(kernel):
    same_as_function(tiny(kernel=kernel), written_out(kernel), ids(19, 2, 7), ids(19, 2, 5, seed=3))


@torch.no_grad()
def test_no_later_target_and_no_padding_is_seen():
    model, source, target = tiny(), ids(19, 2, 6), ids(19, 2, 5, seed=3)
    answer = model(source, target)
    changed = target.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 19
    after = model(source, changed)
    assert torch.equal(after[:, :3], answer[:, :3])
    assert (after[:, 3:] - answer[:, 3:]).abs().amax((0, 2)).min() > 1e-3
    more = torch.cat((source, ids(19, 2, 3, seed=5)), 1)
    close(model(more, target, mask=(torch.arange(9) < 6).expand(2, -1)), answer)


@torch.no_grad()
def test_row_by_row_is_all_at_once():
    model, source, target = tiny(), ids(19, 2, 6), ids(19, 2, 5, seed=3)
    context = model.prepare(source, Context(cache=Cache()))
    pieces = [model.decode(piece, context) for piece in target.split((2, 1, 1, 1), 1)]
    close(torch.cat(pieces, 1), model(source, target))


def test_beams_are_the_same_with_a_cache():
    model, rows = tiny(), [ids(19, 1, n)[0].tolist() for n in (6, 3)]
    options = {"bos": 1, "eos": 2, "pad": 0, "max_tokens": 7, "strategy": ef.spec(Beam, size=3)}
    assert generate(model, rows, cache=True, **options) == generate(model, rows, cache=False, **options)


def test_an_even_kernel_is_refused():
    with pytest.raises(ef.DoesNotFit, match="kernel is odd, so that a source token stands in the middle; given 2"):
        tiny(kernel=2)
