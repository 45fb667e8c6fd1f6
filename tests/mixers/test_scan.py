"""The chunked scan against the recurrence written out a token at a time."""

import pytest
import torch

from everyformer.mixers.scan import gather, scan

B, H, N, K, V = 2, 3, 37, 5, 7
DECAYS = {"none": None, "of heads": (1, H, N, 1), "of tokens": (B, H, N, 1), "of channels": (B, H, N, K)}


def drawn(decay, delta, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    query, key = (torch.randn(B, H, N, K, generator=g, dtype=dtype) for _ in range(2))
    value = torch.randn(B, H, N, V, generator=g, dtype=dtype)
    shape = DECAYS[decay]
    decays = None if shape is None else -torch.rand(shape, generator=g, dtype=dtype) * 2
    strength = torch.rand(B, H, N, 1, generator=g, dtype=dtype) if delta else None
    key = key / key.norm(dim=-1, keepdim=True) if delta else key
    return query, key, value, decays, strength


def literal(query, key, value, decay, strength, state):
    """S_t = diag(a_t) S_{t-1} + b_t k_t (v_t - (diag(a_t) S_{t-1})^T k_t)^T, or without the delta rule + k_t v_t^T."""
    found = torch.zeros_like(value)
    for b in range(B):
        for h in range(H):
            s = state[b, h]
            for t in range(N):
                if decay is not None:
                    s = torch.diag(decay[b % len(decay), h, t].exp().expand(K)) @ s
                written = value[b, h, t]
                if strength is not None:
                    written = strength[b, h, t] * (written - s.T @ key[b, h, t])
                s = s + torch.outer(key[b, h, t], written)
                found[b, h, t] = s.T @ query[b, h, t]
    return found


@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize("decay", DECAYS)
def test_every_chunk_gives_the_recurrence(decay, delta):
    query, key, value, decays, strength = drawn(decay, delta)
    state = torch.randn(B, H, K, V, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = literal(query, key, value, decays, strength, state)
    for chunk in (1, 4, 16, 64, None):
        found, _ = scan(query, key, value, state, decay=decays, strength=strength, chunk=chunk)
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    found, _ = scan(*(x.float() for x in (query, key, value, state)), **{
        "decay": None if decays is None else decays.float(), "strength": None if strength is None else strength.float()
    })  # fmt: skip
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize("decay", DECAYS)
def test_two_halves_with_the_state_between_are_the_whole(decay, delta):
    given = drawn(decay, delta)
    whole, last = scan(*given[:3], decay=given[3], strength=given[4])
    state, found = None, []
    for piece in (slice(0, 20), slice(20, 21), slice(21, N)):
        query, key, value, decays, strength = (None if x is None else x[:, :, piece] for x in given)
        out, state = scan(query, key, value, state, decay=decays, strength=strength)
        found.append(out)
    torch.testing.assert_close(torch.cat(found, 2), whole, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state, last, atol=1e-12, rtol=1e-12)


def test_all_at_once_is_what_the_last_token_reads():
    query, key, value, _, _ = drawn("none", False)
    query = query[:, :, -1:].expand(-1, -1, N, -1)
    found, state = gather(query, key, value)
    wanted, last = scan(query, key, value)
    torch.testing.assert_close(found[:, :, -1], wanted[:, :, -1])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("decay", ["of tokens", "of channels"])
def test_forgetting_everything_at_each_token_overflows_nowhere(decay):
    """exp of the summed decays alone would be 0 and its inverse infinite."""
    query, key, value, decays, _ = drawn(decay, False, torch.float32)
    decays = (decays * 0 - 200).requires_grad_()
    found, state = scan(query, key, value, decay=decays)
    torch.testing.assert_close(found, (query * key).sum(-1, keepdim=True) * value)
    (found.sum() + state.sum()).backward()
    assert decays.grad.isfinite().all()


@pytest.mark.parametrize("delta", [False, True], ids=["sum", "delta"])
@pytest.mark.parametrize("decay", DECAYS)
def test_gradients_are_the_derivatives(decay, delta):
    given = [None if x is None else x[:, :, :5].requires_grad_() for x in drawn(decay, delta)]

    def function(query, key, value, *rest):
        rest = list(rest)
        decays = rest.pop(0) if decay != "none" else None
        return scan(query, key, value, decay=decays, strength=rest.pop(0) if delta else None, chunk=2)

    assert torch.autograd.gradcheck(function, [x for x in given if x is not None], fast_mode=True)


def test_bfloat16_is_summed_in_float32():
    query, key, value, decays, _ = drawn("of tokens", False, torch.float32)
    wanted, _ = scan(query.bfloat16().float(), key.bfloat16().float(), value.bfloat16().float(), decay=decays)
    found, state = scan(query.bfloat16(), key.bfloat16(), value.bfloat16(), decay=decays)
    assert found.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert (found.float() - wanted).abs().max() <= 0.005 * wanted.abs().max()
