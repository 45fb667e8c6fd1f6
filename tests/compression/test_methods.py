"""Methods that put the weights of a trained model into few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import everyformer as ef
from everyformer.compression import Quantized
from everyformer.compression.calibration import BLOCKS, Seen, batches_of, linears, observe, stream
from everyformer.compression.compensation import moments
from everyformer.compression.folding import folds
from everyformer.compression.gptq import rounded
from everyformer.compression.grid import Grid, fit
from everyformer.compression.migration import clipped, smoothing, squeezed
from support.parts import close

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def vit() -> Any:
    return nudged(ef.create("vit", classes=3, image=16, patch=4, width=32, depth=2, heads=4, seed=0))


def nudged(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.1 * torch.randn(each.shape, generator=generator)
    return model.eval()


def pictures(count: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "bits", "group", "order"),
    [("4 channel", 4, "channel", False), ("3 groups of 16", 3, 16, False), ("3 act order", 3, 16, True)],
)
def test_gptq_gives_the_weights_of_the_authors_code(name: str, bits: int, group: int | str, order: bool) -> None:
    kept = load_file(FIXTURES / "gptq.safetensors")
    codes, grid = rounded(kept["weight"], moments(kept["inputs"]), bits, group, act_order=order)
    close(grid.columns(group, codes.shape[1]).values(codes), kept[name])


def test_gptq_is_the_elimination_of_one_column_after_the_other() -> None:
    """Optimal Brain Quantization with the inverse Hessian of the columns left, formed anew each time (GPTQ, equation 2)."""
    torch.manual_seed(0)
    weight, inputs = torch.randn(3, 8).double(), (torch.randn(40, 8) @ torch.randn(8, 8)).double()
    hessian = moments(inputs).double()
    codes, grid = rounded(weight, hessian, 3, "channel")
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(8)
    left, found = weight.clone(), []
    for i in range(8):
        inverse = torch.linalg.inv(hessian[i:, i:])
        column = grid.column(i, "channel").round(left[:, i])
        left[:, i:] -= ((left[:, i] - column) / inverse[0, 0])[:, None] * inverse[0]
        found.append(column)
    close(grid.columns("channel", 8).values(codes), torch.stack(found, 1), 1e-6)


def test_without_correlation_gptq_is_rounding_and_with_it_the_error_is_less() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        weight = torch.randn(6, 24)
        codes, grid = rounded(weight, torch.diag(torch.rand(24) + 0.1), 3, 8)
        near = fit(weight, 3, 8)
        close(grid.columns(8, 24).values(codes), near.columns(8, 24).round(weight), 1e-6)
        inputs = torch.randn(96, 24) @ torch.randn(24, 24)
        for bits in (3, 4):
            codes, grid = rounded(weight, moments(inputs), bits, "channel")
            ours = grid.columns("channel", 24).values(codes)
            plain = fit(weight, bits, "channel").round(weight)
            assert (inputs @ (ours - weight).T).square().mean() < (inputs @ (plain - weight).T).square().mean()


@pytest.mark.parametrize("method", [ef.compression.gptq, ef.compression.rtn, ef.compression.awq])
def test_sixteen_bits_change_nothing(vit: Any, method: Any) -> None:
    before = [each.clone() for each in vit.parameters()]
    made = method(vit, [pictures()], bits=16, group="channel")
    assert all(isinstance(each, Quantized) for each in linears_of(made))
    close(made(pictures(3)), vit(pictures(3)), 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, vit.parameters(), strict=True)), (
        "the model itself is left alone"
    )
    plain = ef.remove(made, "backbone.blocks.0.mixer.qkv")
    close(plain(pictures(3)), vit(pictures(3)), 1e-3)


def linears_of(model: nn.Module) -> list[nn.Module]:
    return [model.get_submodule(path) for path in ef.Design(model.spec).forms()]


def test_awq_and_os_plus_find_what_the_authors_code_finds() -> None:
    kept = load_file(FIXTURES / "migration.safetensors")
    close(clipped(kept["weight"], kept["inputs"], 4, 16), kept["awq clipped"], 1e-6)
    inputs = kept["os+ inputs"]
    seen = Seen(inputs.amin(0), inputs.amax(0), inputs.abs().mean(0), inputs)
    shift = (seen.low + seen.high) / 2
    for bits in (4, 6):
        close(squeezed(kept["os+ weight"], seen, shift, bits), kept[f"os+ scale {bits}"], 1e-4)


def test_smoothing_is_equation_4() -> None:
    torch.manual_seed(0)
    reach, one, two = torch.rand(6) * 9, torch.randn(4, 6), torch.randn(5, 6)
    for j in range(6):
        heavy = max(float(one[:, j].abs().max()), float(two[:, j].abs().max()))
        assert float(smoothing(reach, [one, two], 0.3)[j]) == pytest.approx(
            float(reach[j]) ** 0.3 / heavy**0.7, rel=1e-5
        )


@pytest.mark.parametrize(("system", "normed", "others"), [("vit", 4, 2), ("llama", 4, 4), ("bert", 0, 2)])
def test_a_fold_changes_no_answer(system: str, normed: int, others: int) -> None:
    """A pre-norm is read by maps alone, a post-norm by the residual too; a gated layer feeds its last map, a GELU does not."""
    options: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4}
    options |= {"classes": 3, "image": 16, "patch": 4} if system == "vit" else {"vocabulary": 20, "hidden": 48}
    model = nudged(ef.create(system, seed=0, **options)).double()
    inputs = pictures(3).double() if system == "vit" else torch.arange(36).view(3, 12) % 20
    before, maps = model(inputs), linears(model, BLOCKS)
    found = folds(model, {"inputs": inputs}, maps)
    assert (sum(each.normed for each in found), sum(not each.normed for each in found)) == (normed, others)
    torch.manual_seed(0)
    for fold in found:
        width = maps[fold.readers[0]].in_features
        shift = torch.randn(width).double() if fold.shifts(maps) else None
        fold.apply(maps, torch.rand(width).double() + 0.5, shift)
    close(model(inputs), before, 1e-9)


def test_planted_outliers_cost_rounding_dear_and_migration_little() -> None:
    """OS+ and SmoothQuant undo what a rewrite that keeps the function did to the channels."""
    torch.manual_seed(0)
    model = nudged(ef.create("vit", classes=3, image=16, patch=4, width=32, depth=2, heads=4, seed=0))
    maps = linears(model, BLOCKS)
    for fold in folds(model, {"inputs": pictures()}, maps):
        if fold.normed:
            scale = torch.ones(32)
            scale[3], scale[17] = 1 / 60, 1 / 40
            fold.apply(maps, scale, 30 * torch.randn(32))
    wanted, calibration = model(pictures(4, seed=1)), [pictures()]
    plain = ef.swap(
        ef.compression.rtn(model, bits=6), linears(model, BLOCKS),
        ef.spec(Quantized, bits=6, group="channel", rounded=ef.spec(ef.compression.Fixed, bits=6)),
    )  # fmt: skip
    for path, seen in observe(model, [{"inputs": pictures()}], linears(model, BLOCKS)).items():
        plain.get_submodule(path).rounded.fit(seen.low, seen.high)

    def error(made: nn.Module) -> float:
        return float((made(pictures(4, seed=1)) - wanted).square().mean().detach())

    assert error(ef.compression.os_plus(model, calibration, bits=6)) < 0.2 * error(plain)
    assert error(ef.compression.smoothquant(model, calibration)) < 0.5 * error(ef.compression.int8(model))


def test_a_map_is_shown_what_the_changed_maps_before_it_give(vit: Any) -> None:
    """All batches in step: each map once, in order, with the inputs that the model as it then is gives."""
    made = ef.swap(
        nudged(ef.create("vit", classes=3, image=16, patch=4, width=32, depth=2, heads=4, seed=0)),
        "head.classify",
        ef.spec(Quantized, bits=8),
    )
    maps, batches = linears(made, BLOCKS), [{"inputs": pictures(2, seed)} for seed in range(3)]
    met = []
    with torch.no_grad():
        for path, inputs in stream(made, batches, maps):
            met.append(path)
            maps[path].weight.mul_(0.5)
            given = inputs
    assert met == [*maps]
    seen: list[Tensor] = []
    handle = maps[met[-1]].register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, -2)))
    for batch in batches:
        made(**batch)
    handle.remove()
    close(given, torch.cat(seen).detach(), 1e-5)


def test_an_error_on_the_way_is_told_once_and_every_pass_ends(vit: Any) -> None:
    batches = [{"inputs": pictures(2)}, {"inputs": torch.randn(2, 5, 16, 16)}]
    with pytest.raises(ef.BadInput, match="channels|5"):
        list(stream(vit, batches, linears(vit, BLOCKS)))


def test_padding_is_left_out_of_what_is_looked_at() -> None:
    model = nudged(ef.create("bert", vocabulary=20, width=32, depth=1, heads=4, hidden=48, length=16, seed=0))
    rows = torch.arange(24).view(3, 8) % 20
    mask = torch.arange(8)[None] < torch.tensor([8, 5, 5])[:, None]
    batches = batches_of([{"inputs": rows, "mask": mask, "labels": torch.zeros(3)}], model)
    assert sorted(tuple(each["inputs"].shape) for each in batches) == [(1, 8), (2, 5)]
    assert all("labels" not in each for each in batches)
    seen = observe(model, batches, linears(model, BLOCKS), tokens=18)
    assert len(seen["backbone.blocks.0.mixer.qkv"].some) == 18


@pytest.mark.parametrize(
    ("given", "said"),
    [([], "not one sample"), ([torch.zeros(0, 3, 16, 16)], "not one sample"), ("cats", "given a str"), ([{"x": torch.ones(1)}], r"the keys \['x'\]"), ([3], "given a int")],
)  # fmt: skip
def test_data_that_is_none_is_refused(vit: Any, given: Any, said: str) -> None:
    with pytest.raises(ef.BadInput, match=said):
        ef.compression.gptq(vit, given)


def test_what_cannot_be_rounded_is_refused_and_the_model_left_alone(vit: Any) -> None:
    before = vit.spec
    with pytest.raises(ef.UnknownName, match="unknown plain linear map 'backbone.nothing'"):
        ef.compression.gptq(vit, [pictures()], paths="backbone.nothing")
    with pytest.raises(ef.DoesNotFit, match="2 to 16 bits; given bits=40"):
        ef.compression.gptq(vit, [pictures()], bits=40)
    with pytest.raises(ef.BadInput, match="have another form already"):
        ef.compression.awq(ef.compression.rtn(vit), [pictures()])
    with pytest.raises(ef.BadInput, match="given 1.5"):
        ef.compression.smoothquant(vit, [pictures()], alpha=1.5)
    assert vit.spec == before


def test_a_symmetric_grid_has_the_opposite_of_each_value() -> None:
    grid = Grid.between(torch.tensor(-1.0), torch.tensor(3.0), 4, symmetric=True)
    close(grid.round(torch.tensor([-3.0, 3.0, 9.0])), torch.tensor([-3.0, 3.0, 3.0]), 1e-6)
