"""What every registered mixer keeps."""

from __future__ import annotations

import copy

import pytest
import torch

from everyformer.context import Cache, Context
from everyformer.contracts import Mixer, mix, require
from everyformer.errors import DoesNotFit, EveryformerError
from everyformer.masks import Block, Causal, Full, Mask, Prefix, Where, Window, prefix_lm
from everyformer.mixers.attend import Tap
from everyformer.registry import CAPABILITIES, find_part, part
from everyformer.tokens import Tokens, pack
from support.parts import COUNT, HEADS, MEMORY, WIDTH, close, context, make, mixers, sample, tokens

MIXERS = mixers()
LENGTHS = (6, 3, 1)


DECLARED = {name: make(name).capabilities for name in MIXERS}


def having(*capabilities: str, without: str = "grid") -> list[str]:
    """The mixers that have all of these capabilities and not the other."""
    found = []
    for name, declared in DECLARED.items():
        if declared.issuperset(capabilities) and without not in declared:
            found.append(name)
    return found


def needs_grid(name: str) -> bool:
    return "grid" in make(name).capabilities


def padded(left: int, total: int = 9) -> Tokens:
    """Sequences of LENGTHS with rubbish in the padding, of which `left` tokens stand before them where there is room."""
    whole = tokens(COUNT)
    values = torch.full((3, total, WIDTH), 7.7)
    mask = torch.zeros(3, total, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        start = min(left, total - length)
        values[row, start : start + length] = whole.values[row, :length]
        mask[row, start : start + length] = True
    return Tokens(values, mask=mask)


def alone(mixer: Mixer, shared: Context) -> list[torch.Tensor]:
    """What the mixer makes of each sequence by itself."""
    whole = tokens(COUNT)
    return [
        mix(mixer, Tokens(whole.values[row : row + 1, :length]), sample(shared, row))[0]
        for row, length in enumerate(LENGTHS)
    ]


@pytest.mark.parametrize("name", MIXERS)
def test_declares_known_capabilities(name: str) -> None:
    assert make(name).capabilities <= set(CAPABILITIES)


@pytest.mark.parametrize("name", MIXERS)
def test_gives_an_update_for_each_token(name: str) -> None:
    whole = tokens(grid=needs_grid(name))
    update = mix(make(name), whole, context())
    assert update.shape == whole.values.shape
    assert update.isfinite().all()


@pytest.mark.parametrize("left", [0, 9, 2], ids=["right", "left", "both"])
@pytest.mark.parametrize("name", having())
def test_padding_changes_no_real_token(name: str, left: int) -> None:
    mixer, shared = make(name), context()
    batch = padded(left)
    update = mix(mixer, batch, shared)
    for row, wanted in enumerate(alone(mixer, shared)):
        close(update[row][batch.mask[row]], wanted)


@pytest.mark.parametrize("name", having())
def test_packed_equals_alone(name: str) -> None:
    mixer, shared = make(name), context()
    update = mix(mixer, pack(padded(2)), shared)
    close(update[0], torch.cat(alone(mixer, shared)))


@pytest.mark.parametrize("name", having())
def test_padding_and_packing_change_no_gradient(name: str) -> None:
    if not list(make(name).parameters()):
        pytest.skip("has no parameters")
    shared = context()
    gradients = []
    for form in ("alone", "padded", "packed"):
        mixer = make(name)
        if form == "alone":
            total = sum((each**2).sum() for each in alone(mixer, shared))
        else:
            batch = padded(2) if form == "padded" else pack(padded(2))
            update = mix(mixer, batch, shared)
            total = (update[batch.mask] ** 2).sum() if batch.mask is not None else (update**2).sum()
        total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in mixer.parameters()]))
    scale = gradients[0].abs().max().clamp(min=1e-12)  # neurons that stay silent have none
    close(gradients[1] / scale, gradients[0] / scale)
    close(gradients[2] / scale, gradients[0] / scale)


@pytest.mark.parametrize("name", MIXERS)
def test_needing_a_grid_is_said(name: str) -> None:
    if needs_grid(name):
        with pytest.raises(EveryformerError, match="grid"):
            mix(make(name), tokens(COUNT), context())
    else:
        mix(make(name), tokens(COUNT), context())


@pytest.mark.parametrize("name", having("causal"))
def test_causal_means_no_earlier_token_changes(name: str) -> None:
    mixer, shared = make(name), context(mask=Causal())
    before = mix(mixer, tokens(), shared)
    for t in range(COUNT):
        changed = tokens()
        changed.values[:, t:] += 3.0
        shared.lowered.clear()
        close(mix(mixer, changed, shared)[:, :t], before[:, :t], 1e-6)


@pytest.mark.parametrize("name", [n for n in having() if n not in having("causal") and n not in having("masked")])
def test_not_causal_is_refused_where_the_place_is(name: str) -> None:
    with pytest.raises(DoesNotFit, match="Attention"):
        require(make(name), Causal(), "here")


@pytest.mark.parametrize(
    "mask",
    [Window(2, 1), Window(2) & Causal(), Prefix(2), prefix_lm(2), Block(3), Causal(ahead=1),
     Where(lambda query, key: (query + key) % 3 != 0)],
    ids=["window", "causal window", "prefix", "prefix lm", "block", "look-ahead", "function"],
)  # fmt: skip
@pytest.mark.parametrize("name", having("masked"))
def test_masked_means_only_what_the_mask_allows(name: str, mask: Mask) -> None:
    """Where the mask forbids, no derivative of a token's update by another token; where it allows, some."""
    mixer = make(name)
    seen = influence(mixer, tokens(batch=1), context(1, mask=mask))
    place = torch.arange(COUNT)
    allowed = mask.allows(place[:, None], place[None, :]) | torch.eye(COUNT, dtype=torch.bool)
    assert not (seen & ~allowed).any()
    if "memory" not in mixer.capabilities:
        assert (seen & ~torch.eye(COUNT, dtype=torch.bool)).any()


def influence(mixer: Mixer, whole: Tokens, shared: Context) -> torch.Tensor:
    """(N, N): whether the update of the row's token depends on the column's token."""
    values = whole.values.clone().requires_grad_()
    update = mix(mixer, whole.update(values), shared)
    rows = [
        torch.autograd.grad((update[0, i] ** 2).sum(), values, retain_graph=True)[0][0].abs().sum(-1) > 0
        for i in range(update.shape[1])
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("mask", [Causal(), Causal() & Window(3)], ids=["causal", "causal window"])
@pytest.mark.parametrize("steps", [(1,) * 6, (3, 3), (4, 1, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("name", having("incremental"))
def test_incremental_equals_at_once(name: str, steps: tuple[int, ...], mask: Mask) -> None:
    mixer = make(name)
    if mask != Causal() and "masked" not in mixer.capabilities:
        pytest.skip("honours no window")
    whole = tokens()
    wanted = mix(mixer, whole, context(mask=mask))
    cached = context(mask=mask, cache=Cache())
    got, start = [], 0
    for step in steps:
        cached.lowered.clear()
        piece = Tokens(
            whole.values[:, start : start + step], positions=torch.arange(start, start + step)[None, :, None]
        )
        got.append(mix(mixer, piece, cached))
        cached.cache.advance(piece)
        start += step
    close(torch.cat(got, 1), wanted)


@pytest.mark.parametrize("mask", [Causal(), Causal() & Window(2)], ids=["causal", "causal window"])
@pytest.mark.parametrize("left", [0, 9], ids=["right", "left"])
@pytest.mark.parametrize("name", having("incremental", "padding"))
def test_incremental_after_a_padded_prompt(name: str, left: int, mask: Mask) -> None:
    """A ragged prompt, then a token more for every sequence."""
    mixer = make(name)
    if mask != Causal() and "masked" not in mixer.capabilities:
        pytest.skip("honours no window")
    shared = context(mask=mask, cache=Cache())
    prompt, more = padded(left), tokens(1, seed=9)
    mix(mixer, prompt, shared)
    shared.cache.advance(prompt)
    shared.lowered.clear()
    got = mix(mixer, more, shared)
    for row, length in enumerate(LENGTHS):
        whole = torch.cat((tokens(COUNT).values[row : row + 1, :length], more.values[row : row + 1]), 1)
        wanted = mix(mixer, Tokens(whole), sample(shared, row))
        close(got[row], wanted[0, -1:])


@pytest.mark.parametrize("name", [n for n in having() if n not in having("ordered")])
def test_permuting_tokens_permutes_updates(name: str) -> None:
    mixer, whole = make(name), tokens()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    before = mix(mixer, whole, context())
    close(mix(mixer, whole.update(whole.values[:, order]), context()), before[:, order])


@pytest.mark.parametrize("name", having("ordered"))
def test_ordered_means_order_matters(name: str) -> None:
    mixer, whole = make(name), tokens()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    before = mix(mixer, whole, context())
    assert (mix(mixer, whole.update(whole.values[:, order]), context()) - before[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("name", having("weights"))
def test_a_token_of_weight_two_is_two_tokens(name: str) -> None:
    mixer, whole = make(name), tokens()
    twice = Tokens(torch.cat((whole.values, whole.values[:, -1:]), 1))
    weights = torch.ones(3, COUNT)
    weights[:, -1] = 2
    close(mix(mixer, whole.replace(weights=weights), context()), mix(mixer, twice, context())[:, :COUNT])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("watched", [False, True], ids=["fused", "watched"])
@pytest.mark.parametrize("name", having())
def test_a_row_of_padding_alone_stays_finite(name: str, watched: bool, dtype: torch.dtype) -> None:
    mixer = make(name).to(dtype)
    for tap in taps(mixer) if watched else []:
        tap.register_forward_hook(lambda *_: None)
    batch = padded(0)
    batch.mask[1] = False
    values = batch.values.to(dtype).requires_grad_()
    shared = context()
    shared.memory = {"encoder": shared.memory["encoder"].replace(mask=torch.ones(3, MEMORY, dtype=torch.bool))}
    shared.memory["encoder"].mask[2] = False
    shared.memory["encoder"].values = shared.memory["encoder"].values.to(dtype)
    update = mix(mixer, batch.update(values), shared)
    update[batch.mask].float().pow(2).sum().backward()
    assert update.isfinite().all()
    assert values.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in mixer.parameters())


def taps(mixer: Mixer, name: str = "weights") -> list[Tap]:
    found = [(path, module) for path, module in mixer.named_modules() if isinstance(module, Tap)]
    return [module for path, module in found if path.split(".")[-1] == name]


TAPPED = [name for name in having("padding") if taps(make(name))]


@pytest.mark.parametrize("mask", [Full(), Causal(), Window(2)], ids=str)
@pytest.mark.parametrize("name", TAPPED)
def test_watching_weights_changes_nothing(name: str, mask: Mask) -> None:
    mixer = make(name)
    batch = padded(2) if "padding" in mixer.capabilities else tokens().replace(mask=torch.ones(3, COUNT).bool())
    plain = mix(mixer, batch, context(mask=mask))
    seen: list[torch.Tensor] = []
    for tap in taps(mixer):
        tap.register_forward_hook(lambda module, inputs, output: seen.append(output))
    close(mix(mixer, batch, context(mask=mask))[batch.mask], plain[batch.mask])
    for weights in seen:
        real = batch.mask.reshape(len(weights), 1, -1).expand(-1, weights.shape[1], -1)
        rows = weights.sum(-1)[real]
        close(rows, torch.ones_like(rows))
    assert len(seen) == len(taps(mixer))


@pytest.mark.parametrize("name", TAPPED)
def test_replacing_weights_changes_the_update(name: str) -> None:
    mixer = make(name)
    plain = mix(mixer, tokens(), context())
    handles = [tap.register_forward_hook(lambda m, i, output: torch.zeros_like(output)) for tap in taps(mixer)]
    assert (mix(mixer, tokens(), context()) - plain).abs().max() > 1e-3
    for handle in handles:
        handle.remove()
    close(mix(mixer, tokens(), context()), plain, 0.0)


@pytest.mark.parametrize("point", ["queries", "keys", "values", "scores", "mixed"])
@pytest.mark.parametrize("name", [name for name in TAPPED if taps(make(name), "scores")])
def test_every_point_of_attention_is_read_and_replaced(name: str, point: str) -> None:
    mixer = make(name)
    plain = mix(mixer, tokens(), context())
    seen: list[torch.Tensor] = []
    handles = [tap.register_forward_hook(lambda m, i, output: seen.append(output)) for tap in taps(mixer, point)]
    close(mix(mixer, tokens(), context()), plain)
    assert len(seen) >= len(handles) > 0
    for handle in handles:
        handle.remove()
    close(mix(mixer, tokens(), context()), plain, 0.0)
    for tap in taps(copy.deepcopy(mixer), point):
        tap.register_forward_hook(lambda m, i, output: output.sin())
    close(mix(mixer, tokens(), context()), plain, 0.0)
    mixer = copy.deepcopy(mixer)
    for tap in taps(mixer, point):
        tap.register_forward_hook(lambda m, i, output: output + torch.randn_like(output))
    assert (mix(mixer, tokens(), context()) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", TAPPED)
def test_unwatched_the_fast_kernel_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: (calls.append(1), fused(*a, **k))[1]
    )
    mixer = make(name)
    mix(mixer, tokens(), context())
    fast = len(calls)
    calls.clear()
    for tap in [tap for point in ("queries", "keys", "values", "mixed") for tap in taps(mixer, point)]:
        tap.register_forward_hook(lambda *_: None)
    mix(mixer, tokens(), context())
    assert calls
    calls.clear()
    for tap in taps(mixer):
        tap.register_forward_hook(lambda *_: None)
    mix(mixer, tokens(), context())
    assert len(calls) == fast - len(taps(mixer)) >= 0


def test_what_is_declared_is_held_to() -> None:
    """The tests above can fail: a mixer that lies about being causal is found out."""

    @part("mixers")
    class Liar(Mixer):
        capabilities = frozenset({"causal", "padding", "packed"})

        def __init__(self, width: int) -> None:
            super().__init__()

        def forward(self, tokens: Tokens, context: Context | None = None) -> torch.Tensor:
            return tokens.values.mean(1, keepdim=True).expand_as(tokens.values)

    try:
        with pytest.raises(AssertionError):
            test_causal_means_no_earlier_token_changes("mixers.Liar")
        with pytest.raises(AssertionError):
            test_padding_changes_no_real_token("mixers.Liar", 0)
        with pytest.raises(AssertionError):
            test_packed_equals_alone("mixers.Liar")
    finally:
        from everyformer import registry

        del registry._parts["mixers"]["Liar"]
    assert find_part("mixers.Attention")


def test_head_width_is_asked_for_where_heads_do_not_divide() -> None:
    with pytest.raises(DoesNotFit, match="width 32 is not a multiple of heads 5"):
        make("mixers.Attention", heads=5)
    assert make("mixers.Attention", heads=5, head_width=4)(tokens()).shape == (3, COUNT, WIDTH)
    with pytest.raises(DoesNotFit, match="key_heads 3"):
        make("mixers.Attention", heads=HEADS, key_heads=3)


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"temperature": 0.0}], ids=str)
def test_scores_that_would_be_nought_or_endless_are_refused(options) -> None:
    with pytest.raises(DoesNotFit, match="scale and temperature are not 0"):
        make("mixers.Attention", **options)
