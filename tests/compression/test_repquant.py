"""RepQuant: the simple quantizer gives the whole numbers of the accurate one, and each of its steps lowers the error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import everyformer as ef
from everyformer.compression.calibration import BLOCKS, linears, observe
from everyformer.compression.folding import folds
from everyformer.compression.grid import Grid
from everyformer.compression.repquant import clips, reparameterised, straight_through
from everyformer.scores import LogRounded
from support.agreement import close, perturb


def pictures(count: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def uneven() -> Any:
    """A ViT with some channels behind its norms far larger than others, and off the middle."""
    model = perturb(ef.create("vit", classes=3, image=16, patch=4, width=16, depth=1, heads=2, seed=0), seed=1, std=0.1)
    maps = linears(model.eval(), BLOCKS)
    for fold in folds(model, {"inputs": pictures()}, maps):
        if fold.normed:
            scale = torch.ones(16)
            scale[3], scale[9] = 1 / 30, 1 / 12
            fold.apply(maps, scale, 4 * torch.randn(16, generator=torch.Generator().manual_seed(2)))
    return model


def test_the_mean_grid_gives_the_whole_numbers_of_the_channels() -> None:
    """And the maps behind a norm give what they gave."""
    model = uneven().double()
    values, maps = {"inputs": pictures(3).double()}, linears(model, BLOCKS)
    before = model(**values)
    fold = next(each for each in folds(model, values, maps) if each.normed)
    seen = observe(model, [values], maps)[fold.readers[0]]
    grid = Grid.between(seen.low.double(), seen.high.double(), 4)
    scale, shift, mean = reparameterised(grid)
    inputs: list[Tensor] = []
    handle = maps[fold.readers[0]].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(**values)
    fold.apply(maps, scale, shift)
    close(model(**values), before)
    handle.remove()
    assert len(mean.scale) == 1 == len(mean.zero)
    assert torch.equal(mean.codes(inputs[1]), grid.codes(inputs[0]))


def test_softmax_in_steps_of_half_an_octave() -> None:
    """By shifts of bits and a factor for odd codes; the finer steps are nearer."""
    shares = torch.randn(4, 2, 5, 24, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
    errors = []
    for octave in (2, 1):
        ours = LogRounded(2, 8, bits=4, octave=octave).weights(shares, None)
        codes = (-octave * shares.log2()).round()
        if octave == 2:
            shifted = torch.ldexp(torch.ones(()), -torch.ceil(codes / 2)) * torch.where(codes % 2 == 1, 2**0.5, 1.0)
        else:
            shifted = torch.ldexp(torch.ones(()), -codes)
        close(ours, torch.where(codes < 16, shifted, 0.0))
        errors.append(float((ours - shares).square().mean()))
    assert errors[0] < errors[1]
    wanted = shares.clone().requires_grad_()
    LogRounded(2, 8).weights(wanted, None).sum().backward()
    assert (wanted.grad == 1).all(), "the gradient passes"
    with pytest.raises(ef.EveryformerError, match="bits and octave are at least 1"):
        ef.spec(LogRounded, bits=0).build(2, 8)


def test_learnt_clips_are_nearer_than_the_whole_reach() -> None:
    model = uneven()
    maps = linears(model, BLOCKS)
    path = next(iter(maps))
    seen = observe(model, [{"inputs": pictures()}], maps)[path]
    weight = maps[path].weight.detach()
    errors = []
    for steps in (0, 30):
        low, high = clips(weight, seen, 3, steps)
        lost = straight_through(seen.some, low, high, 3) - seen.some
        errors.append(float((lost @ weight.T).square().mean()))
    assert errors[1] < errors[0]
    low, high = clips(weight, seen, 3, 5, together=True)
    close(-low, high)


def test_uneven_channels_cost_repquant_little() -> None:
    model, data = uneven(), [pictures()]
    wanted = model(pictures(4, seed=1))

    def error(made: Any) -> float:
        return float((made(pictures(4, seed=1)) - wanted).square().mean().detach())

    ours = ef.compression.repquant(model, data, bits=6, steps=10)
    plain = ef.swap(
        ef.compression.rtn(model, bits=6), [*linears(model, BLOCKS)],
        ef.spec(ef.compression.Quantized, bits=6, group="channel", rounded=ef.spec(ef.compression.Fixed, bits=6)),
    )  # fmt: skip
    for path, seen in observe(model, [{"inputs": pictures()}], linears(model, BLOCKS)).items():
        plain.get_submodule(path).rounded.fit(seen.low, seen.high)
    assert error(ours) < 0.3 * error(plain)
    steps = ours.spec.get("backbone").get("blocks")[0].get("mixer").get("steps")
    assert [each.part for each in steps] == [LogRounded]
    whole = ef.compression.repquant(model, data, bits=16, steps=0)
    found = ef.resize(_plain(whole), "backbone.blocks.0.mixer.steps", ())(pictures(2))
    torch.testing.assert_close(found, model(pictures(2)), atol=1e-3, rtol=0)


def _plain(model: Any) -> Any:
    for path in ef.Design(model.spec).forms():
        ef.remove(model, path)
    return model


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ef.BadInput, match="2 to 16 bits; given bits=1"):
        ef.compression.repquant(uneven(), [pictures()], bits=1)
    with pytest.raises(ef.BadInput, match="no steps or some; given -1"):
        ef.compression.repquant(uneven(), [pictures()], steps=-1)
