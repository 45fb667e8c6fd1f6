"""What every registered normaliser, step and set of slots keeps: an attention with it in it is held to all that it declares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from contracts import test_mixers as mixers
from everyformer.context import Cache, Context
from everyformer.contracts import Normaliser, Scored, ScorePart, ScoreStep, Slots
from everyformer.masks import Block, Causal, Window
from everyformer.mixers import blocks
from everyformer.registry import find_part
from support.parts import COUNT, HEADS, close, context, make, names, spec_of, tokens

PARTS = names("scores")
NORMALISERS = [name for name in PARTS if issubclass(find_part(name), Normaliser)]


def place(name: str) -> dict[str, Any]:
    """The options of an attention in which the part stands."""
    part, spec = find_part(name), spec_of(name)
    if issubclass(part, Normaliser):
        return {"normaliser": spec}
    return {"slots": spec} if issubclass(part, Slots) else {"steps": (spec,)}


@pytest.fixture
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The contract tests of mixers see an attention with this part in it."""
    options = place(request.param)
    monkeypatch.setattr(mixers, "make", lambda name, **more: make("mixers.Attention", **options, **more))
    return request.param


every = pytest.mark.parametrize("attention", PARTS, indirect=True)


def declares(name: str, *capabilities: str) -> bool:
    return make("mixers.Attention", **place(name)).capabilities.issuperset(capabilities)


@pytest.mark.parametrize("name", PARTS)
def test_says_what_it_is(name: str) -> None:
    part = find_part(name)
    assert issubclass(part, (Normaliser, ScoreStep, Slots))
    assert part.capabilities <= ScorePart.capabilities | {"ordered"}
    assert (part.__doc__ or "").strip()


@pytest.mark.parametrize("left", [0, 9, 2], ids=["right", "left", "both"])
@every
def test_padding_changes_no_real_token(attention: str, left: int) -> None:
    mixers.test_padding_changes_no_real_token(attention, left)


@every
def test_packing_changes_nothing(attention: str) -> None:
    mixers.test_packed_equals_alone(attention)
    mixers.test_padding_and_packing_change_no_gradient(attention)


@every
def test_causal_means_no_earlier_token_changes(attention: str) -> None:
    if not declares(attention, "causal"):
        pytest.skip("not causal")
    mixers.test_causal_means_no_earlier_token_changes(attention)


@pytest.mark.parametrize("mask", [Window(2, 1), Block(3)], ids=str)
@every
def test_only_what_the_mask_allows(attention: str, mask: Any) -> None:
    """A sparse normaliser may leave out more; nothing else is seen."""
    seen = mixers.influence(mixers.make(attention), tokens(batch=1), context(1, mask=mask))
    at = torch.arange(COUNT)
    assert not (seen & ~mask.allows(at[:, None], at[None]) & ~torch.eye(COUNT, dtype=torch.bool)).any()


@pytest.mark.parametrize("steps", [(1,) * 6, (4, 1, 1)], ids=str)
@every
def test_incremental_equals_at_once(attention: str, steps: tuple[int, ...]) -> None:
    if not declares(attention, "incremental"):
        pytest.skip("not incremental")
    mixers.test_incremental_equals_at_once(attention, steps, Causal())
    mixers.test_incremental_equals_at_once(attention, steps, Causal() & Window(3))


@every
def test_permuting_tokens_permutes_updates(attention: str) -> None:
    if declares(attention, "ordered"):
        pytest.skip("tells tokens apart by their order")
    mixers.test_permuting_tokens_permutes_updates(attention)


@every
def test_a_token_of_weight_two_is_two_tokens(attention: str) -> None:
    if not declares(attention, "weights"):
        pytest.skip("counts each token once")
    mixers.test_a_token_of_weight_two_is_two_tokens(attention)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every
def test_a_row_of_padding_alone_stays_finite(attention: str, dtype: torch.dtype) -> None:
    mixers.test_a_row_of_padding_alone_stays_finite(attention, True, dtype)


@pytest.mark.parametrize("name", PARTS)
def test_gradients_reach_every_parameter_and_are_the_derivative(name: str) -> None:
    mixer = make("mixers.Attention", **place(name), width=16).double()
    values = tokens(width=16).values.double().requires_grad_()
    if find_part(name).derivative:
        assert torch.autograd.gradcheck(
            lambda x: mixer(ef.Tokens(x), Context(mask=Causal())), (values,), fast_mode=True
        )
    mixer(ef.Tokens(values), Context(mask=Causal())).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in mixer.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", PARTS)
def test_by_blocks_equals_the_dense_mask(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = make("mixers.Attention", **place(name))
    whole = tokens(40)
    dense = mixer(whole, Context(mask=Window(3, 2)))
    calls = []
    worked = blocks.Gathered.attend
    monkeypatch.setattr(blocks, "worthwhile", lambda mask, count: True)
    monkeypatch.setattr(blocks, "SIDE", 4)
    monkeypatch.setattr(blocks.Gathered, "attend", lambda self, *a: (calls.append(1), worked(self, *a))[1])
    blocks.groups.cache_clear()
    close(mixer(whole, Context(mask=Window(3, 2))), dense)
    blocks.groups.cache_clear()
    assert bool(calls) == find_part(name).piecewise


@pytest.mark.parametrize("name", PARTS)
def test_cross_attention_takes_it_too(name: str) -> None:
    mixer = make("mixers.CrossAttention", **place(name))
    assert mixer(tokens(), context()).isfinite().all()
    plain = make("mixers.CrossAttention")(tokens(), context())
    if find_part(name).piecewise:
        assert (mixer(tokens(), context()) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("name", PARTS)
def test_compiles_in_one_graph(name: str) -> None:
    mixer = make("mixers.Attention", **place(name))
    torch.compiler.reset()
    call = lambda x: mixer(ef.Tokens(x), Context(mask=Causal()))  # noqa: E731
    close(torch.compile(call, backend="eager", fullgraph=True)(tokens().values), call(tokens().values))


@pytest.mark.parametrize("name", NORMALISERS)
def test_weights_are_none_where_nothing_is_allowed(name: str) -> None:
    normaliser = spec_of(name).build(HEADS, 8)
    scores = torch.randn(2, HEADS, 5, 7, generator=torch.Generator().manual_seed(0)) * 3
    allowed = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.5
    allowed[0, 0, 0] = False
    weights = normaliser(scores, allowed)
    assert (weights >= 0).all()
    assert not weights[~allowed.expand_as(weights)].any()
    kept = allowed[1, 0, 0]
    close(normaliser(scores[1:, :, :1, kept], None)[0], weights[1, :, :1, kept])


def test_what_cannot_be_kept_is_not_declared() -> None:
    """An attention declares what all parts inside it keep."""

    class Backwards(ScoreStep):
        capabilities = ScoreStep.capabilities - {"causal", "masked"}

        def scores(self, scores: torch.Tensor, at: Scored) -> torch.Tensor:
            return scores + scores.mean(-1, keepdim=True)

    mixer = ef.mixers.Attention(32, heads=HEADS, steps=(ef.spec(Backwards),))
    assert "causal" not in mixer.capabilities
    with pytest.raises(ef.DoesNotFit, match="not 'causal'"):
        mixers.require(mixer, Causal(), "here")
    assert "causal" in ef.mixers.Attention(32, heads=HEADS).capabilities


def test_the_plain_path_is_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of the room, no products written out."""
    from everyformer.mixers import attend

    monkeypatch.setattr(attend, "_explicit", None)
    mixer = make("mixers.Attention")
    assert mixer(tokens(), context(mask=Causal())).isfinite().all()
    cached = context(mask=Causal(), cache=Cache())
    assert mixer(tokens(), cached).isfinite().all()
