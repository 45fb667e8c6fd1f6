"""Promise 1: any part of a whole model is exchanged in one line, and what does not fit is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.contracts import Backbone, FeedForward, Mixer, Norm, Position, Residual
from everyformer.designs import Design, design_of
from everyformer.specs import Spec
from support.parts import HEADS, VOCABULARY, WIDTH, context, names, place_for, spec_of, tokens
from support.rooms import example
from support.systems import crossed, model_of, systems, tiny

BACKBONES = [
    name
    for name in names("backbones")
    if issubclass(spec_of(name).part, Backbone) and not getattr(spec_of(name).part, "leads", 0)
]
"""Text has no leading tokens."""
GRIDDED = {
    f"positions.{name}" for name in ("FourierGrid", "HeatPlaces", "LearnedAxes", "LearnedGrid", "ScaledSinusoidal")
}
"""Positions that ask for rows and columns."""
ATTENTION = ef.spec(ef.mixers.Attention, heads=HEADS)


def body(name: str, *, pictures: bool = False) -> Design:
    """A whole model of text or pictures with the backbone, or with an encoder of two of these blocks."""
    part = spec_of(name)
    if "blocks" not in part.options:
        part = ef.spec(ef.backbones.Encoder, blocks=(part, part))
    return Design(
        ef.spec(
            ef.models.Model,
            width=WIDTH,
            embedding=ef.spec(ef.embeddings.Patches, patch=4, image=16)
            if pictures
            else ef.spec(ef.embeddings.Text, vocabulary=VOCABULARY),
            backbone=part,
            head=ef.spec(ef.heads.TokenHead, vocabulary=VOCABULARY),
        )
    )


def having(pattern: str) -> list[str]:
    """The backbones in which the pattern finds something."""
    return [name for name in BACKBONES if body(name).find(pattern)]


def trains(design: Design) -> None:
    """One step of descent: the loss is finite, gradients flow, and the weights move."""
    model = design.build(seed=0)
    batch = example(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    logits = model(**batch, context=context()).flatten(0, 1)
    wanted = torch.randint(0, VOCABULARY, logits.shape[:1], generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(logits, wanted)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in model.parameters())
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.startswith("backbone.") for name in moved)


def trains_or_is_refused(design: Design, pattern: str, new: Spec[Any]) -> None:
    try:
        swapped = design.swap(pattern, new)
        swapped.build(device="meta")
    except ef.DoesNotFit as error:
        assert new.name.partition(".")[2] in str(error), "names the part"
        assert error.path, "names the place"
        assert "fits" in str(error) or "stands in" in str(error), "says what would fit"
        return
    trains(swapped)


def of(kind: type, *rooms: str) -> list[str]:
    return [name for name in names(*rooms) if issubclass(spec_of(name).part, kind)]


_OTHER_TOKENS = ("backbones.Interleaved", "backbones.Multiscale", "backbones.Spelled")
_GRIDLESS = ("backbones.Chunked", "backbones.HaltingEncoder", "backbones.Summaries", *_OTHER_TOKENS)
_INSIDE = ("backbones.WordBlock", "backbones.ReversibleBlock", *_OTHER_TOKENS)


@pytest.mark.parametrize(
    ("backbone", "name"),
    crossed(having("**.mixer"), of(Mixer, "mixers"), whole=("backbones.Encoder", "backbones.Decoder"), every=4),
)
def test_every_mixer_in_every_backbone(name: str, backbone: str) -> None:
    capabilities = spec_of(name).part.capabilities
    if backbone in _INSIDE and "memory" in capabilities:
        pytest.skip("what stands inside is of another width than the memory, or of groups that share it")
    pictures = "grid" in capabilities
    place = (
        "**.outer.mixer" if backbone == "backbones.WordBlock" else "**.mixer"
    )  # words are few, narrow, and on no grid
    try:
        trains_or_is_refused(body(backbone, pictures=pictures), place, spec_of(name))
    except ef.BadInput as error:
        assert backbone in _GRIDLESS, (
            "chunks, words, groups and patches of tokens, and those with others in front, are on no grid"
        )
        assert "fill a grid" in str(error)


@pytest.mark.parametrize("backbone", having("**.feedforward"))
@pytest.mark.parametrize("name", of(FeedForward, "feedforward"))
def test_every_feedforward_in_every_backbone(name: str, backbone: str) -> None:
    trains_or_is_refused(body(backbone), "**.feedforward", spec_of(name))


@pytest.mark.parametrize("name", of(Norm, "norms"))
def test_every_norm_in_every_residual(name: str) -> None:
    for residual in of(Residual, "norms"):
        design = body("backbones.Block").swap("backbone.blocks.*.residual", spec_of(residual))
        trains_or_is_refused(design, "backbone.blocks.*.residual.norm", spec_of(name))


@pytest.mark.parametrize("place", ["backbone.positions", "embedding.positions", "backbone.blocks.0.mixer.positions"])
@pytest.mark.parametrize("name", of(Position, "positions"))
def test_every_position_in_every_place(name: str, place: str) -> None:
    design = body("backbones.Encoder").set("backbone.blocks.*.mixer", ATTENTION)
    part = spec_of(name)
    stands = part.build(*place_for(name)).stands.split()
    changed = design.set(place, part)
    if ("embedding" if place.startswith("embedding") else "attention") not in stands:
        with pytest.raises(ef.DoesNotFit, match="stands in") as error:
            changed.build()
        assert error.value.path == place
    elif name in GRIDDED:
        with pytest.raises(ef.BadInput, match="grid|rows and columns"):
            trains(changed)
    else:
        trains(changed)


def test_a_mixer_that_lets_later_tokens_in_is_refused_in_a_decoder() -> None:
    class Mean(Mixer):
        def __init__(self, width: int) -> None:
            super().__init__()

        def forward(self, whole: Any, shared: Any = None) -> torch.Tensor:
            return whole.values.mean(1, keepdim=True).expand_as(whole.values)

    trains(body("backbones.Encoder").swap("**.mixer", Spec(Mean, {})))
    with pytest.raises(ef.DoesNotFit) as error:
        body("backbones.Decoder").swap("backbone.blocks.1.mixer", Spec(Mean, {})).build()
    assert "backbone.blocks.1.mixer" in str(error.value)
    assert "Mean is not 'causal'" in str(error.value)
    assert "Attention" in str(error.value)


def test_a_part_of_another_room_is_refused() -> None:
    with pytest.raises(ef.DoesNotFit) as error:
        body("backbones.Encoder").swap("backbone.blocks.1.mixer", ef.spec(ef.feedforward.MLP))
    assert error.value.path == "backbone.blocks.1.mixer"
    assert "takes ef.spec(...) of a Mixer" in str(error.value)
    assert "mixers.Attention" in str(error.value)


@pytest.mark.parametrize("name", systems())
def test_the_attention_of_every_system_is_exchanged(name: str) -> None:
    """And its feedforward, on a built model, all other weights kept."""
    design = tiny(name)
    model = model_of(design)
    kept = {n: p.clone() for n, p in model.named_parameters() if not re.search(r"(mixer|feedforward)s?\.", n)}
    for pattern in filter(design.find, ("**.mixer", "**.mixers.*", "**.mixers.*.*")):
        ef.swap(model, pattern, lambda old: ef.spec(ef.mixers.Attention, heads=2, temperature=2.0))
    for pattern in filter(design_of(model).find, ("**.feedforward", "**.feedforwards.*")):
        ef.swap(model, pattern, ef.spec(ef.feedforward.Gated, hidden=24))
    now = dict(model.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in kept.items() if n in now and now[n].shape == p.shape)
    lost = [n for n in kept if n not in now or now[n].shape != kept[n].shape]
    assert all("positions" in n for n in lost), lost
    assert model(**model.example(2)).isfinite().all()


def test_alone_a_part_is_an_ordinary_module() -> None:
    assert ef.mixers.Attention(WIDTH, heads=HEADS)(tokens()).shape == (3, 6, WIDTH)
