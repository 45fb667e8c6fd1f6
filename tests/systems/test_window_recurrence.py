"""A decoder that reads windows with a vector of those before: written out, and plain windows without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.generation import generate
from everyformer.models import window_recurrence
from everyformer.tokens import Tokens
from support.agreement import close, perturb

IDS = torch.randint(19, (2, 14), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> Any:
    made = ef.create("gpt", vocabulary=19, width=16, depth=2, heads=2, length=8, dropout=0.0, seed=0)
    return perturb(made.eval(), seed=1, std=0.3)


def written(made: Any, ids: torch.Tensor) -> torch.Tensor:
    """Windows of 4; in the second block one more key and value, made of the mean state of the window before."""
    logits, vector = [], None
    for piece in ids.split(4, 1):
        x = made.embedding(piece).values
        for i, block in enumerate(made.backbone.blocks):
            y = block.residual[0].norm(x)
            query, key, value = (each.unflatten(-1, (2, 8)).transpose(1, 2) for each in block.mixer.qkv(y).chunk(3, -1))
            seen = torch.ones(piece.shape[1], piece.shape[1], dtype=torch.bool).tril()
            if i == 1 and vector is not None:
                _, k, v = (each.unflatten(-1, (2, 8)).transpose(1, 2) for each in block.mixer.qkv(vector).chunk(3, -1))
                key, value = torch.cat((k, key), 2), torch.cat((v, value), 2)
                seen = F.pad(seen, (1, 0), value=True)
            weights = (query @ key.mT / 8**0.5).masked_fill(~seen, float("-inf")).softmax(-1)
            x = x + block.mixer.output((weights @ value).transpose(1, 2).flatten(2))
            z = block.residual[1].norm(x)
            x = x + block.feedforward.down(block.feedforward.activation(block.feedforward.up(z)))
        x = made.backbone.norm(x)
        r = made.recurrence
        vector = r.down(F.gelu(r.up(x.mean(1, keepdim=True))))
        logits.append(made.head.project(x))
    return torch.cat(logits, 1)


def test_each_window_sees_a_vector_of_the_one_before(model: Any) -> None:
    made = perturb(window_recurrence(model, window=4, layer=1, seed=2), seed=3, std=0.3)
    wanted, found = written(made, IDS), made(IDS)
    close(found, wanted)
    both = []
    for answer in (found, wanted):
        made.zero_grad()
        answer.square().sum().backward()
        both.append(torch.cat([each.grad.flatten() for each in made.parameters()]))
    close(*both, "gradients")


def test_without_the_vector_windows_are_read_by_themselves(model: Any) -> None:
    plain = window_recurrence(model, window=4, recurrence=None)
    close(plain(IDS), torch.cat([model(piece) for piece in IDS.split(4, 1)], 1))
    other = IDS.clone()
    other[:, 1] = (other[:, 1] + 1) % 19
    recurrent = perturb(window_recurrence(model, window=4, seed=2), seed=3, std=0.3)
    assert torch.equal(plain(other)[:, 4:], plain(IDS)[:, 4:])
    assert (recurrent(other)[:, 4:] - recurrent(IDS)[:, 4:]).abs().amax((0, 2)).min() > 1e-6, "every window to come"
    assert torch.equal(recurrent(other)[:, :1], recurrent(IDS)[:, :1])
    close(window_recurrence(model, window=4)(IDS)[:, :4], model(IDS[:, :4]))


def test_the_gradient_goes_back_through_so_many_windows(model: Any) -> None:
    for through, reached in ((1, [3]), (2, [2, 3]), (4, [0, 1, 2, 3])):
        made = window_recurrence(model, window=4, through=through, seed=2)
        entered: list[torch.Tensor] = []
        handle = made.embedding.register_forward_hook(lambda _, __, out, entered=entered: entered.append(out.values))
        made(IDS)[:, -1].sum().backward(inputs=[each.retain_grad() or each for each in entered])
        handle.remove()
        assert [i for i, each in enumerate(entered) if each.grad is not None and each.grad.abs().max() > 0] == reached


def test_it_writes_texts_longer_than_its_positions(model: Any) -> None:
    made = window_recurrence(model, window=4, seed=2).eval()
    said = generate(made, IDS[:, :3], eos=None, pad=0, max_tokens=9)
    seen = IDS[:, :3]
    for _ in range(9):
        seen = torch.cat((seen, made(seen)[:, -1:].argmax(-1)), 1)
    assert said == seen[:, 3:].tolist()
    apart = [IDS[0, :3].tolist(), IDS[1, :5].tolist()]
    options = {"eos": None, "pad": 0, "max_tokens": 4}
    assert generate(made, apart, **options) == [generate(made, [each], **options)[0] for each in apart]


def test_what_does_not_fit_is_told(model: Any) -> None:
    with pytest.raises(ef.DoesNotFit, match="windows have at least 1 token"):
        window_recurrence(model, window=0)
    with pytest.raises(ef.DoesNotFit, match="in front of Attention"):
        window_recurrence(window_recurrence(model, window=4), window=4)
    made = window_recurrence(model, window=4, seed=2)
    with pytest.raises(ef.BadInput, match="texts of one length"):
        made(IDS, mask=torch.ones_like(IDS, dtype=torch.bool))
    before = Context(memory={"before": Tokens(torch.ones(2, 1, 16))})
    with pytest.raises(ef.BadInput, match="has 2 sequences, and 3"):
        made.backbone.blocks[0].mixer(Tokens(torch.ones(3, 4, 16)), before)
