"""Codes in bytes, and the grids that weights and inputs are rounded to."""

from __future__ import annotations

import pytest
import torch

import everyformer as ef
from everyformer.compression.grid import Grid, fit, pack, unpack


@pytest.mark.parametrize("bits", range(2, 17))
def test_codes_come_out_of_their_bytes_as_they_went_in(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for low, high in ((0, 2**bits), (-(2 ** (bits - 1)), 2 ** (bits - 1))):
        codes = torch.randint(low, high, (3, 21), generator=generator)
        packed = pack(codes, bits)
        assert packed.dtype == torch.uint8
        assert packed.shape[1] <= -(-21 * bits // 8) + 2, "at most part of a byte a piece is lost"
        assert torch.equal(unpack(packed, bits, 21, signed=low < 0).long(), codes)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", ["tensor", "channel", 5])
def test_a_value_is_never_further_than_half_a_step(group: int | str, symmetric: bool) -> None:
    weight = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    grid = fit(weight, 4, group, symmetric=symmetric)
    spread = grid.columns(group, 12)
    reach = spread.scale.expand(4, 12)
    step = 1.0 if group == "tensor" or not symmetric else 0.5
    assert ((spread.round(weight) - weight).abs() <= step * reach + 1e-6).all()
    assert torch.equal(spread.round(torch.zeros(4, 12)), torch.zeros(4, 12)), "0 is on the grid"
    torch.testing.assert_close(grid.of_groups(spread.codes(weight), group), spread.round(weight))


def test_rounding_is_what_torch_calls_so() -> None:
    values = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 3
    grid = Grid.between(values.min(), values.max(), 5)
    wanted = torch.fake_quantize_per_tensor_affine(values, float(grid.scale), int(grid.zero), 0, 31)  # type: ignore[arg-type]
    torch.testing.assert_close(grid.round(values), wanted)


def test_packed_kernels_give_what_the_plain_path_gives() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 128)
    for form in (
        ef.compression.Quantized(128, 32, bits=8, group="channel", symmetric=True),
        ef.compression.Quantized(128, 32, bits=4, group=64),
    ):
        form.bfloat16()
        with torch.no_grad():
            assert form._kernel(values.bfloat16()) is not None
            plain = torch.nn.functional.linear(values.bfloat16(), form.weight, form.bias)
            torch.testing.assert_close(form(values.bfloat16()), plain, atol=0.03, rtol=0.03)
            form.take(torch.randn(32, 128))
            plain = torch.nn.functional.linear(values.bfloat16(), form.weight, form.bias)
            torch.testing.assert_close(form(values.bfloat16()), plain, atol=0.1, rtol=0.03)


def test_whole_numbers_multiply_as_their_values_do() -> None:
    torch.manual_seed(0)
    form, values = ef.compression.Int8(24, 8), torch.randn(2, 5, 24)
    rounded = ef.compression.EachToken(24)(values)
    torch.testing.assert_close(form(values), torch.nn.functional.linear(rounded, form.weight, form.bias))


@pytest.mark.parametrize(("option", "said"), [({"bits": 1}, "2 to 16 bits; given bits=1"), ({"group": 0}, "group=0")])
def test_bits_and_groups_that_there_are_not_are_refused(option: dict[str, int], said: str) -> None:
    with pytest.raises(ef.BadInput, match=said):
        ef.compression.Quantized(8, 8, **option)
