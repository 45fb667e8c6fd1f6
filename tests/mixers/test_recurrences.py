"""The scan against recorded answers and gradients of flash-linear-attention's naive references."""

import math

import pytest
import torch
from safetensors.torch import load_file

from everyformer.mixers.scan import scan
from support.agreement import FIXTURES, close

K = 4
RETENTION = torch.tensor([math.log1p(-(2.0 ** (-5 - h))) for h in range(2)])


def form(name, given):
    """The answer of one kind; theirs scales queries and has heads after tokens."""
    query, key, value, channels, heads, strength = (
        given[each].transpose(1, 2) for each in ("query", "key", "value", "channels", "heads", "strength")
    )
    options = {
        "linear": {},
        "gla": {"decay": channels},
        "simple_gla": {"decay": heads[..., None]},
        "retention": {"decay": RETENTION[None, :, None, None].expand(-1, -1, query.shape[2], -1)},
        "delta": {"strength": strength[..., None]},
        "gated_delta": {"decay": heads[..., None], "strength": strength[..., None]},
    }[name]
    return scan(query * K**-0.5, key, value, chunk=8, **options)[0].transpose(1, 2)


@pytest.mark.parametrize("name", ["linear", "gla", "simple_gla", "retention", "delta", "gated_delta"])
def test_equals_a_recorded_run(name):
    kept = load_file(FIXTURES / "recurrences.safetensors")
    given = {
        each: kept[each].clone().requires_grad_()
        for each in ("query", "key", "value", "channels", "heads", "strength")
    }  # fmt: skip
    answer = form(name, given)
    close(answer, kept[f"{name}.output"])
    (answer * kept["cotangent"]).sum().backward()
    wanted = {key.rpartition(".")[2]: value for key, value in kept.items() if key.startswith(f"{name}.gradient.")}
    assert wanted
    for each, gradient in wanted.items():
        close(given[each].grad, gradient, f"gradient of {each}")
