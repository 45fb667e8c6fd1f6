"""Promise 4: causality, padding and packing belong to the place, whatever part stands there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.contracts import FeedForward, Norm, Residual
from everyformer.masks import Causal, Window
from support.parts import HEADS, close, mixers, names, spec_of
from support.rooms import example, vocabulary_of
from support.systems import causal, crossed, model_of, systems, tiny

CAUSAL = [name for name in systems() if causal(tiny(name)) and name != "clip"]
"""Not the one whose answer is how well a whole text goes with a picture."""


def same(model: nn.Module) -> nn.Module:
    return model


def swaps() -> list[tuple[str, Callable[[nn.Module], nn.Module]]]:
    """Every registered part, put into a built model wherever one of its kind stands."""
    found: list[tuple[str, Callable[[nn.Module], nn.Module]]] = [("as it is", same)]
    for name in [*mixers(), *names("feedforward", "norms")]:
        spec = spec_of(name)
        if name.startswith("mixers."):
            if "memory" in spec.part.capabilities or "grid" in spec.part.capabilities:
                continue
            pattern = "**.mixer"
        elif issubclass(spec.part, FeedForward):
            pattern = "**.feedforward"
        elif issubclass(spec.part, Norm):
            pattern = "**.residual.norm"
        elif issubclass(spec.part, Residual) and "condition" not in spec.part.capabilities:
            pattern = "**.residual"
        else:
            continue
        found.append((name, lambda model, p=pattern, s=spec: ef.swap(model, p, s, seed=1)))
    for name in names("positions"):
        if "attention" in spec_of(name).part.stands.split():
            found.append((name, lambda model, n=name: ef.swap(model, "**.mixer", attention(n), seed=1)))
    window = ef.spec(ef.mixers.Attention, heads=HEADS, mask=Window(2, 2))
    found.append(("a window both ways", lambda model: ef.swap(model, "**.mixer", window, seed=1)))
    return found


def attention(position: str) -> ef.Spec:
    return ef.spec(ef.mixers.Attention, heads=HEADS, positions=spec_of(position))


SWAPS = dict(swaps())


@pytest.mark.parametrize(
    ("name", "what"), crossed(CAUSAL, list(SWAPS), whole=("gpt", "llama", "transformer"), every=8)
)  # fmt: skip
def test_no_later_token_moves_an_earlier_answer(name: str, what: str) -> None:
    """In float64, so that a difference is not of rounding."""
    try:
        model = SWAPS[what](model_of(tiny(name))).double()
    except ef.EveryformerError as error:
        known = "causal", "no part at", "takes ef.spec(...) of a", "each block is run twice"
        assert any(each in str(error) for each in known), (
            "refused, or the system has no such place, or none for such a part"
        )
        return
    ids = torch.randint(1, vocabulary_of(model), (2, 8), generator=torch.Generator().manual_seed(1))
    source = given.double() if (given := example(model, 2)["inputs"]).is_floating_point() else ids
    say = (lambda target: model(source, target)) if hasattr(model, "source") else model
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, :3] = False
    with torch.no_grad():
        before = say(ids)
        masked = model(source, ids, target_mask=mask) if hasattr(model, "source") else model(ids, mask=mask)
        for t in (1, 4, 7):
            changed = ids.clone()
            changed[:, t:] = (changed[:, t:] + 7) % vocabulary_of(model)
            close(say(changed)[:, :t], before[:, :t], 1e-6)
        alone = model(source[1:], ids[1:, 3:]) if hasattr(model, "source") else model(ids[1:, 3:])
    close(masked[1, 3:], alone[0])


def test_a_loaded_checkpoint_stays_causal_after_a_swap() -> None:
    transformers = pytest.importorskip("transformers")
    from everyformer.interop import from_transformers

    config = transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    model = from_transformers(transformers.GPT2LMHeadModel(config).eval()).eval()
    ids = torch.arange(8)[None] % 7
    changed = ids.clone()
    changed[:, 5:] += 6
    for new in (ef.spec(ef.mixers.Attention, heads=2), ef.spec(ef.mixers.Attention, heads=HEADS, mask=Window(3, 3))):
        ef.swap(model, "backbone.blocks.*.mixer", new, seed=1)
        close(model(changed)[:, :5], model(ids)[:, :5], 1e-6)
        assert (model(changed)[:, 5:] - model(ids)[:, 5:]).abs().max() > 1e-4


def test_the_test_would_see_it() -> None:
    """The same check finds a model that looks ahead."""
    model = model_of(tiny("gpt"))
    model.backbone.mask = Causal(ahead=1)
    ids = torch.arange(8)[None] % 7
    changed = ids.clone()
    changed[:, 4:] += 3
    assert (model(ids)[:, 3] - model(changed)[:, 3]).abs().max() > 1e-4
