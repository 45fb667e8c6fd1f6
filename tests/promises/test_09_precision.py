"""Promise 9: bfloat16 only where the machine says that it is fast at it, and said so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import everyformer as ef
from everyformer.models.formats import use_bfloat16
from everyformer.training.optimizers import common_width
from everyformer.training.precision import choose
from support.rooms import example
from support.systems import model_of, systems, tiny

DISCRETE = {
    "ecoformer",
    "grit",
    "hmpe",
    "ia-red2",
    "informer",
    "mask2former",
    "memoryformer",
    "reformer",
    "spiking-lmuformer",
}
"""Systems whose parts choose by a sign, a threshold or a rank, so that rounding chooses something else."""


@pytest.mark.parametrize(
    "limit",
    [
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "default"},
    ],
)
def test_a_processor_held_back_trains_in_float32(limit: dict[str, str]) -> None:
    code = "from everyformer.training.precision import choose; print(choose('auto'))"
    environment = {**os.environ, **limit, "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("fp32 (bfloat16 is slow"), said.stdout


@pytest.mark.parametrize("flag", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_a_processor_with_bfloat16_takes_it(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    pretend(monkeypatch, "AVX512", **{flag: True})
    assert choose("auto").name == "bf16"
    assert choose("auto").fabric == "bf16-mixed"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert choose("auto").name == "fp32"


def test_a_processor_without_bfloat16_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "AVX512")
    assert str(choose("auto")) == "fp32 (this processor has neither AMX nor AVX512-BF16)"


def test_a_narrow_model_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "AVX512", _is_avx512_bf16_supported=True)
    narrow = ef.create("vit", "tiny", width=64, depth=2, heads=4, image=8, patch=2, classes=3, seed=0)
    assert common_width(narrow) == 64
    assert str(choose("auto", 64)) == "fp32 (matrices 64 wide are too small for bfloat16 to pay)"
    assert choose("auto", 128).name == "bf16"


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "AVX2")
    assert choose("bf16").name == "bf16"
    assert choose("fp32").fabric == "32-true"


def pretend(monkeypatch: pytest.MonkeyPatch, level: str, **flags: bool) -> None:
    """A machine without a GPU, whose processor has these and no others."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for flag in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        has = flags.get(flag, False)
        monkeypatch.setattr(torch.cpu, flag, lambda has=has: has)


@pytest.mark.parametrize("name", systems())
def test_a_model_in_bfloat16_is_given_and_answers_in_float32(name: str) -> None:
    model = model_of(tiny(name))
    batch = example(model)
    with torch.no_grad():
        wanted = model(**batch)
        given = use_bfloat16(model)(**batch)
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}
    assert given.dtype == torch.float32
    if name not in DISCRETE:
        assert (given - wanted).norm() < 0.05 * wanted.norm()
